using System.Runtime.InteropServices;
using CsCheck;
using Switchyard.Cpu.Quantization;
using Switchyard.Cpu.Vectors;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Vectors of every width give the bits that the conversion of one number gives.</summary>
public class ConversionTests
{
    private static readonly int[] _lengths = [0, 1, 3, 7, 16, 31, 33, 127, 128, 129, 7168, 7173];

    public static TheoryData<int> WidthsInBits() => [.. Enum.GetValues<VectorWidth>().Select(width => (int)width)];

    [Theory]
    [MemberData(nameof(WidthsInBits))]
    public void Every_16_bit_code_converts_as_a_single_one_does(int widthBits)
    {
        ushort[] codes = [.. Enumerable.Range(0, 1 << 16).Select(code => (ushort)code)];
        ReadOnlySpan<BFloat16> brains = MemoryMarshal.Cast<ushort, BFloat16>(codes);
        ReadOnlySpan<Half> halves = MemoryMarshal.Cast<ushort, Half>(codes);
        Check<BFloat16, float>(brains, (VectorWidth)widthBits, value => value.ToSingle());
        Check<BFloat16, Half>(brains, (VectorWidth)widthBits, value => (Half)value.ToSingle());
        Check<BFloat16, Float8E4M3>(brains, (VectorWidth)widthBits, value => Float8E4M3.FromSingle(value));
        Check<Half, float>(halves, (VectorWidth)widthBits, value => (float)value);
        Check<Half, BFloat16>(halves, (VectorWidth)widthBits, value => BFloat16.FromSingle((float)value));
        Check<Half, Float8E4M3>(halves, (VectorWidth)widthBits, value => Float8E4M3.FromSingle((float)value));
    }

    [Theory]
    [MemberData(nameof(WidthsInBits))]
    public void Every_8_bit_code_converts_as_a_single_one_does(int widthBits)
    {
        Float8E4M3[] codes = [.. Enumerable.Range(0, 1 << 8).Select(code => new Float8E4M3((byte)code))];
        Check<Float8E4M3, float>(codes, (VectorWidth)widthBits, value => value.ToSingle());
        Check<Float8E4M3, Half>(codes, (VectorWidth)widthBits, value => (Half)value.ToSingle());
        Check<Float8E4M3, BFloat16>(codes, (VectorWidth)widthBits, value => BFloat16.FromSingle(value));
    }

    /// <summary>Each exponent and sign, with fractions around each place where any of the formats rounds or carries.</summary>
    [Theory]
    [MemberData(nameof(WidthsInBits))]
    public void Singles_around_every_rounding_edge_narrow_as_a_single_one_does(int widthBits)
    {
        SortedSet<uint> fractions = [];
        for (int bit = 0; bit <= 23; bit++)
        {
            foreach (uint edge in new[] { 1u << bit, 3u << bit, 5u << bit, (1u << 23) - (1u << bit) })
                fractions.UnionWith([(edge - 1) & 0x7F_FFFF, edge & 0x7F_FFFF, (edge + 1) & 0x7F_FFFF]);
        }
        uint[] bits = [.. Enumerable.Range(0, 1 << 9).SelectMany(upper => fractions.Select(fraction => ((uint)upper << 23) | fraction))];
        CheckNarrowing(bits, (VectorWidth)widthBits);
    }

    [Theory]
    [MemberData(nameof(WidthsInBits))]
    public void Random_singles_narrow_as_a_single_one_does(int widthBits)
    {
        var random = new Random(1);
        foreach (int length in _lengths)
        {
            uint[] bits = new uint[length];
            random.NextBytes(MemoryMarshal.AsBytes(bits.AsSpan()));
            CheckNarrowing(bits, (VectorWidth)widthBits);
        }
        CheckNarrowing([.. Enumerable.Range(0, 1 << 20).Select(_ => (uint)random.NextInt64(1L << 32))], (VectorWidth)widthBits);
    }

    [Theory]
    [MemberData(nameof(WidthsInBits))]
    public void Spans_may_start_anywhere_and_nothing_beside_them_is_written(int widthBits) =>
        Gen.Select(Gen.Int[0, 70], Gen.Int[0, 3], Gen.Int[0, 1]).Sample((length, skew, parity) =>
        {
            byte[] from = new byte[(length * 4) + skew], to = new byte[(length * 2) + 2];
            new Random(length).NextBytes(from);
            to.AsSpan().Fill(0xA5);
            Span<float> source = MemoryMarshal.Cast<byte, float>(from.AsSpan(skew));
            Span<byte> destination = to.AsSpan(parity, length * 2);
            ElementConversion.Convert<float, Half>(source, MemoryMarshal.Cast<byte, Half>(destination), (VectorWidth)widthBits);
            for (int i = 0; i < length; i++)
                Assert.Equal(BitConverter.HalfToUInt16Bits((Half)source[i]), BitConverter.ToUInt16(destination[(i * 2)..]));
            Assert.Equal([.. Enumerable.Repeat((byte)0xA5, 2)], to[..parity].Concat(to[(parity + (length * 2))..]));
        });

    [Fact]
    public void The_public_conversions_are_these()
    {
        float[] values = [0, -1.5f, 65520, 3e-8f, float.NaN, float.NegativeInfinity, 1.00390625f];
        var brains = new BFloat16[values.Length];
        var halves = new Half[values.Length];
        var singles = new float[values.Length];
        ElementConversion.Convert(values, brains);
        Assert.Equal(values.Select(BFloat16.FromSingle), brains);
        ElementConversion.Convert(brains, singles);
        Assert.Equal(brains.Select(value => value.ToSingle()), singles);
        ElementConversion.Convert(brains, halves);
        Assert.Equal(brains.Select(value => (Half)value.ToSingle()), halves);
        ElementConversion.Convert(values, halves);
        Assert.Equal(values.Select(value => (Half)value), halves);
        ElementConversion.Convert(halves, singles);
        Assert.Equal(halves.Select(value => (float)value), singles);
        ElementConversion.Convert(halves, brains);
        Assert.Equal(halves.Select(value => BFloat16.FromSingle((float)value)), brains);
    }

    [Fact]
    public void A_destination_that_is_too_short_is_refused_by_name()
    {
        ArgumentException error = Assert.Throws<ArgumentException>(() => ElementConversion.Convert(new float[5], new Half[4]));
        Assert.Equal("destination", error.ParamName);
        Assert.Contains("4", error.Message, StringComparison.Ordinal);
        Assert.Contains("5", error.Message, StringComparison.Ordinal);
    }

    private static void CheckNarrowing(uint[] bits, VectorWidth width)
    {
        ReadOnlySpan<float> values = MemoryMarshal.Cast<uint, float>(bits);
        Check(values, width, BFloat16.FromSingle);
        Check(values, width, value => (Half)value);
        Check(values, width, Float8E4M3.FromSingle);
    }

    /// <summary>Compares bits, so that NaNs count too.</summary>
    private static void Check<TSource, TTarget>(ReadOnlySpan<TSource> source, VectorWidth width, Func<TSource, TTarget> convert)
        where TSource : unmanaged
        where TTarget : unmanaged
    {
        var expected = new TTarget[source.Length];
        var actual = new TTarget[source.Length];
        MemoryMarshal.AsBytes(actual.AsSpan()).Fill(0xA5);
        for (int i = 0; i < source.Length; i++) expected[i] = convert(source[i]);
        ElementConversion.Convert(source, actual.AsSpan(), width);
        if (MemoryMarshal.AsBytes(expected).SequenceEqual(MemoryMarshal.AsBytes(actual))) return;
        for (int i = 0; i < source.Length; i++)
            Assert.Equal(Hex(expected[i]), Hex(actual[i]));
    }

    private static string Hex<T>(T value)
        where T : unmanaged => System.Convert.ToHexString(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));
}

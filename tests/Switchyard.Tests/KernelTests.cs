using System.Runtime.InteropServices;
using CsCheck;
using Switchyard.Cpu;
using Switchyard.Cpu.Vectors;
using Xunit;

namespace Switchyard.Tests;

/// <summary>The kernels that move and add rows, with vectors of every width, against plain loops; whatever stands around a row stays as it was.</summary>
public unsafe class KernelTests
{
    private const int Margin = 64;
    private const byte Poison = 0xA5;
    private static readonly float[] _special = [float.NaN, float.PositiveInfinity, float.NegativeInfinity, -0f, 1e-42f, float.MaxValue];

    public static TheoryData<ElementType, int> Widths()
    {
        var cases = new TheoryData<ElementType, int>();
        foreach (ElementType element in new[] { ElementType.BFloat16, ElementType.Half, ElementType.Single })
        {
            foreach (VectorWidth width in Enum.GetValues<VectorWidth>()) cases.Add(element, (int)width);
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Sums_are_those_of_a_plain_loop(ElementType element, int width) =>
        Gen.Select(Gen.Int[1, 400], Gen.Int[0, 9], Gen.Int[0, 63], Gen.Bool, Gen.Bool, Gen.Int[0, int.MaxValue - 1]).Sample(
            (length, count, shift, isWeighted, streams, seed) =>
            {
                var random = new Random(seed);
                int size = element.SizeInBytes();
                byte[][] rows = [.. Enumerable.Range(0, count).Select(_ => Row(random, element, length))];
                float[]? weights = isWeighted ? [.. Enumerable.Range(0, count + 1).Select(_ => random.NextSingle() - 0.3f)] : null;
                byte[] expected = PlainSum(element, rows, weights, length);

                byte[] output = new byte[(2 * Margin) + shift + (length * size)];
                Array.Fill(output, Poison);
                Sum(RowReducer.For(element, (VectorWidth)width), rows, weights, output.AsSpan(Margin + shift, length * size), length, streams);
                AssertSame(element, expected, output.AsSpan(Margin + shift, length * size));
                AssertPoison(output.AsSpan(0, Margin + shift));
                AssertPoison(output.AsSpan(Margin + shift + (length * size)));
            },
            iter: 1500);

    [Theory]
    [InlineData((int)VectorWidth.Portable)]
    [InlineData((int)VectorWidth.Bits256)]
    [InlineData((int)VectorWidth.Bits512)]
    public void Streamed_copies_are_whole_and_touch_nothing_else(int width) =>
        Gen.Select(Gen.Int[0, 3000], Gen.Int[0, 63], Gen.Int[0, 63], Gen.Int[0, int.MaxValue - 1]).Sample((length, from, to, seed) =>
        {
            byte[] source = new byte[from + length], destination = new byte[(2 * Margin) + to + length];
            new Random(seed).NextBytes(source);
            Array.Fill(destination, Poison);
            fixed (byte* sourceStart = source, destinationStart = destination)
                RowCopy.Streaming(sourceStart + from, destinationStart + Margin + to, length, (VectorWidth)width);
            RowCopy.Fence();
            Assert.True(destination.AsSpan(Margin + to, length).SequenceEqual(source.AsSpan(from)));
            AssertPoison(destination.AsSpan(0, Margin + to));
            AssertPoison(destination.AsSpan(Margin + to + length));
        }, iter: 1000);

    [Theory]
    [InlineData((int)VectorWidth.Portable)]
    [InlineData((int)VectorWidth.Bits256)]
    [InlineData((int)VectorWidth.Bits512)]
    public void Copies_streamed_to_two_places_are_whole_and_touch_nothing_else(int width) =>
        Gen.Select(Gen.Int[0, 3000], Gen.Int[0, 63], Gen.Int[0, 63], Gen.Int[0, int.MaxValue - 1]).Sample((length, to, toSecond, seed) =>
        {
            // Places of the same alignment as often as others.
            if (seed % 2 == 0) toSecond = to;
            byte[] source = new byte[length], destination = new byte[(2 * Margin) + to + length], second = new byte[(2 * Margin) + toSecond + length];
            new Random(seed).NextBytes(source);
            Array.Fill(destination, Poison);
            Array.Fill(second, Poison);
            fixed (byte* sourceStart = source, destinationStart = destination, secondStart = second)
                RowCopy.StreamingTwice(sourceStart, destinationStart + Margin + to, secondStart + Margin + toSecond, length, (VectorWidth)width);
            RowCopy.Fence();
            AssertHolds(source, destination, Margin + to);
            AssertHolds(source, second, Margin + toSecond);
        }, iter: 1000);

    private static void AssertHolds(byte[] source, byte[] destination, int at)
    {
        Assert.True(destination.AsSpan(at, source.Length).SequenceEqual(source));
        AssertPoison(destination.AsSpan(0, at));
        AssertPoison(destination.AsSpan(at + source.Length));
    }

    private static void Sum(RowReducer reducer, byte[][] rows, float[]? weights, Span<byte> output, int length, bool streams)
    {
        GCHandle[] pins = [.. rows.Select(row => GCHandle.Alloc(row, GCHandleType.Pinned))];
        byte** addresses = stackalloc byte*[rows.Length + 1];
        for (int row = 0; row < rows.Length; row++) addresses[row] = (byte*)pins[row].AddrOfPinnedObject();
        fixed (float* factors = weights)
        fixed (byte* sum = output)
            reducer.Reduce(addresses, factors, rows.Length, sum, length, streams);
        RowCopy.Fence();
        foreach (GCHandle pin in pins) pin.Free();
    }

    private static byte[] PlainSum(ElementType element, byte[][] rows, float[]? weights, int length)
    {
        byte[] sum = new byte[length * element.SizeInBytes()];
        for (int i = 0; i < length; i++)
        {
            float total = 0;
            for (int row = 0; row < rows.Length; row++)
            {
                float value = Get(element, rows[row], i), term = weights is null ? value : value * weights[row];
                total = row == 0 ? term : total + term;
            }
            Set(element, sum, i, total);
        }
        return sum;
    }

    private static byte[] Row(Random random, ElementType element, int length)
    {
        byte[] row = new byte[length * element.SizeInBytes()];
        bool hasSpecial = random.Next(2) == 0;
        for (int i = 0; i < length; i++)
        {
            bool isSpecial = hasSpecial && random.Next(40) == 0;
            Set(element, row, i, isSpecial ? _special[random.Next(_special.Length)] : (random.NextSingle() - 0.5f) * MathF.Pow(2, random.Next(-12, 13)));
        }
        return row;
    }

    /// <summary>Bit for bit; a NaN must stand where one is expected, and only there, whichever NaN it is.</summary>
    private static void AssertSame(ElementType element, byte[] expected, ReadOnlySpan<byte> actual)
    {
        int size = element.SizeInBytes();
        byte[] copy = actual.ToArray();
        for (int i = 0; i < expected.Length / size; i++)
        {
            if (float.IsNaN(Get(element, expected, i))) Assert.True(float.IsNaN(Get(element, copy, i)), $"element {i} is no NaN");
            else Assert.True(expected.AsSpan(i * size, size).SequenceEqual(copy.AsSpan(i * size, size)), $"element {i}: {Get(element, expected, i)} and {Get(element, copy, i)}");
        }
    }

    private static void AssertPoison(ReadOnlySpan<byte> bytes) => Assert.False(bytes.ContainsAnyExcept(Poison));

    private static float Get(ElementType element, byte[] row, int i) => element switch
    {
        ElementType.BFloat16 => MemoryMarshal.Cast<byte, BFloat16>(row)[i].ToSingle(),
        ElementType.Half => (float)MemoryMarshal.Cast<byte, Half>(row)[i],
        _ => MemoryMarshal.Cast<byte, float>(row)[i],
    };

    private static void Set(ElementType element, byte[] row, int i, float value)
    {
        if (element == ElementType.BFloat16) MemoryMarshal.Cast<byte, BFloat16>(row.AsSpan())[i] = BFloat16.FromSingle(value);
        else if (element == ElementType.Half) MemoryMarshal.Cast<byte, Half>(row.AsSpan())[i] = (Half)value;
        else MemoryMarshal.Cast<byte, float>(row.AsSpan())[i] = value;
    }
}

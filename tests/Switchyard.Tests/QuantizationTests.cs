using System.Runtime.InteropServices;
using CsCheck;
using Switchyard.Cpu.Quantization;
using Switchyard.Cpu.Vectors;
using Xunit;

namespace Switchyard.Tests;

public class QuantizationTests
{
    private const int Group = Float8Scales.GroupSize;

    private static readonly Float8Scaling[] _forms = [Float8Scaling.Single, Float8Scaling.PowerOfTwo, Float8Scaling.Packed];

    public static TheoryData<int, Float8Scaling, ScaleLayout> WidthsInBitsFormsAndLayouts()
    {
        TheoryData<int, Float8Scaling, ScaleLayout> all = [];
        foreach (VectorWidth width in Enum.GetValues<VectorWidth>())
            foreach (Float8Scaling form in _forms)
                foreach (ScaleLayout layout in Enum.GetValues<ScaleLayout>()) all.Add((int)width, form, layout);
        return all;
    }

    [Theory]
    [MemberData(nameof(WidthsInBitsFormsAndLayouts))]
    public void Every_width_gives_the_bits_of_the_documented_arithmetic(int widthBits, Float8Scaling form, ScaleLayout layout)
    {
        foreach (int hidden in new[] { 1, 3, 127, 128, 129, 512, 640, 7168, 7173 })
        {
            foreach (int rows in new[] { 0, 1, 3, 5 })
            {
                float[] values = Values(rows * hidden, seed: hidden + rows);
                Check(values, hidden, form, layout, (VectorWidth)widthBits);
                Check([.. values.Select(BFloat16.FromSingle)], hidden, form, layout, (VectorWidth)widthBits);
                Check([.. values.Select(value => (Half)value)], hidden, form, layout, (VectorWidth)widthBits);
            }
        }
    }

    [Theory]
    [MemberData(nameof(WidthsInBitsFormsAndLayouts))]
    public void What_comes_back_is_near(int widthBits, Float8Scaling form, ScaleLayout layout) =>
        Gen.Select(Gen.Int[1, 4], Gen.Int[1, 400], Gen.Float[-20, 20], Gen.Int[0, 1 << 20]).Sample((rows, hidden, exponent, seed) =>
        {
            var random = new Random(seed);
            float[] values = [.. Enumerable.Range(0, rows * hidden).Select(_ => (random.NextSingle() - 0.5f) * MathF.Exp(exponent))];
            (Float8E4M3[] codes, float[] scales) = Quantize<float>(values, hidden, form, layout, (VectorWidth)widthBits);
            float[] back = Restore<float>(codes, hidden, scales, form, layout, (VectorWidth)widthBits);
            for (int i = 0; i < values.Length; i++)
            {
                float scale = ScaleOf(scales, i / hidden, i % hidden / Group, rows, hidden, form, layout);
                double limit = Math.Max(Math.Abs(values[i]) / 16, scale / 1024) * (1 + 1e-6);
                Assert.True(Math.Abs((double)values[i] - back[i]) <= limit, $"{values[i]} came back as {back[i]} with scale {scale}");
            }
        }, iter: 30);

    [Fact]
    public void Zeros_give_zeros_and_the_least_scale()
    {
        (Float8E4M3[] codes, float[] scales) = Quantize<float>(new float[Group], Group, Float8Scaling.Single);
        Assert.All(codes, code => Assert.Equal(0, code.Bits));
        Assert.Equal([1e-4f / 448], scales);
    }

    [Theory]
    [MemberData(nameof(WidthsInBitsFormsAndLayouts))]
    public void NaN_and_infinities_leave_the_others_alone(int widthBits, Float8Scaling form, ScaleLayout layout)
    {
        for (int at = 0; at < Group + 3; at++)
        {
            float[] clean = Values(Group + 3, seed: 5), values = [.. clean];
            clean[at] = 0;
            (Float8E4M3[] expected, float[] scales) = Quantize<float>(clean, Group + 3, form, layout, (VectorWidth)widthBits);
            foreach ((float odd, int code) in new[]
            {
                (BitConverter.UInt32BitsToSingle(0x7FC0_0000), 0x7F),
                (BitConverter.UInt32BitsToSingle(0xFF80_0001), 0xFF),
                (float.PositiveInfinity, 0x7E),
                (float.NegativeInfinity, 0xFE),
            })
            {
                values[at] = odd;
                (Float8E4M3[] codes, float[] oddScales) = Quantize<float>(values, Group + 3, form, layout, (VectorWidth)widthBits);
                Assert.Equal(code, (int)codes[at].Bits);
                codes[at] = expected[at];
                Assert.Equal(expected, codes);
                Assert.Equal(scales, oddScales);
            }
        }
    }

    [Fact]
    public void The_greatest_magnitude_becomes_the_greatest_code() => Gen.Float[1e-3f, 3e38f].Sample(magnitude =>
    {
        (Float8E4M3[] codes, float[] scales) = Quantize<float>([1e-3f, -magnitude], 2, Float8Scaling.Single);
        Assert.Equal(0xFE, codes[1].Bits);
        (_, float[] powers) = Quantize<float>([1e-3f, -magnitude], 2, Float8Scaling.PowerOfTwo);
        Assert.True(powers[0] * 448.0 >= magnitude && powers[0] * 224.0 < magnitude, $"{powers[0]} for {magnitude}");
        Assert.Equal(0, BitConverter.SingleToInt32Bits(powers[0]) & 0x7F_FFFF);
        Assert.Equal(magnitude / 448, scales[0]);
    });

    [Theory]
    [InlineData(448f, 1f)]
    [InlineData(448.00003f, 2f)]
    [InlineData(447.99997f, 1f)]
    [InlineData(224f, 0.5f)]
    public void A_power_of_two_is_the_least_that_suffices(float magnitude, float scale)
    {
        (_, float[] scales) = Quantize<float>([magnitude], 1, Float8Scaling.PowerOfTwo);
        Assert.Equal([scale], scales);
    }

    [Fact]
    public void Every_packed_exponent_is_understood()
    {
        for (int exponent = 0; exponent < 256; exponent++)
        {
            var codes = new Float8E4M3[4 * Group];
            codes[(exponent % 4) * Group] = Float8E4M3.FromSingle(1);
            var back = new float[codes.Length];
            Float8Quantizer.Dequantize(codes, codes.Length, [exponent << (8 * (exponent % 4))], back, ScaleLayout.RowMajor);
            float expected = exponent == 255 ? float.NaN : (float)Math.Pow(2, exponent - 127);
            Assert.Equal(expected, back[(exponent % 4) * Group]);
        }
    }

    [Fact]
    public void Nothing_is_allocated()
    {
        var values = new BFloat16[640];
        var codes = new Float8E4M3[640];
        int[] packed = new int[8];
        float[] scales = new float[8];
        long before = 0;
        for (int round = 0; round < 3; round++)
        {
            before = GC.GetAllocatedBytesForCurrentThread();
            Float8Quantizer.Quantize<BFloat16>(values, 320, codes, packed, ScaleLayout.ColumnMajor);
            Float8Quantizer.Dequantize<BFloat16>(codes, 320, packed, values, ScaleLayout.ColumnMajor);
            Float8Quantizer.Quantize<BFloat16>(values, 320, codes, scales, Float8Scaling.Single, ScaleLayout.RowMajor);
            Float8Quantizer.Dequantize<BFloat16>(codes, 320, scales, values, ScaleLayout.RowMajor);
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Theory]
    [InlineData(0, 1, ScaleLayout.ColumnMajor, 0, 0)]
    [InlineData(5, 1, ScaleLayout.RowMajor, 5, 5)]
    [InlineData(5, 1, ScaleLayout.ColumnMajor, 8, 8)]
    [InlineData(4, 7168, ScaleLayout.RowMajor, 224, 56)]
    [InlineData(4, 7168, ScaleLayout.ColumnMajor, 224, 56)]
    [InlineData(9, 7169, ScaleLayout.RowMajor, 513, 135)]
    [InlineData(9, 7169, ScaleLayout.ColumnMajor, 684, 180)]
    [InlineData(int.MaxValue, 1 << 20, ScaleLayout.ColumnMajor, (1L << 31) * 8192, (1L << 31) * 2048)]
    public void Buffers_have_the_specified_sizes(int rows, int hidden, ScaleLayout layout, long count, long packed)
    {
        Assert.Equal(count, Float8Scales.Count(rows, hidden, layout));
        Assert.Equal(packed, Float8Scales.PackedCount(rows, hidden, layout));
    }

    [Theory]
    [InlineData(1, 1, 16)]
    [InlineData(17, 1, 32)]
    [InlineData(5, 2, 8)]
    [InlineData(5, 4, 8)]
    [InlineData(3, 8, 4)]
    [InlineData(3, 16, 3)]
    public void Columns_take_a_multiple_of_16_bytes(int rows, int scaleBytes, long stride) =>
        Assert.Equal(stride, ScaleLayouts.ColumnStride(rows, scaleBytes));

    public static TheoryData<Action, string[]> Mistakes()
    {
        var codes = new Float8E4M3[256];
        var values = new float[256];
        float[] scales = new float[8];
        int[] packed = new int[8];
        return new()
        {
            { () => Float8Quantizer.Quantize<float>(values, 0, codes, scales, Float8Scaling.Single, default), ["hidden", "0", "1048576"] },
            { () => Float8Quantizer.Quantize<float>(values, -5, codes, packed, default), ["hidden", "-5"] },
            { () => Float8Quantizer.Quantize<float>(values, 1 << 21, codes, packed, default), ["hidden", "2097152", "1048576"] },
            { () => Float8Quantizer.Quantize<float>(values, 100, codes, scales, Float8Scaling.Single, default), ["source", "256", "100"] },
            { () => Float8Quantizer.Quantize<float>(values, 128, codes.AsSpan(1), packed, default), ["destination", "255"] },
            { () => Float8Quantizer.Quantize<float>(values, 128, codes, scales, (Float8Scaling)7, default), ["scaling", "7"] },
            { () => Float8Quantizer.Quantize<float>(values, 128, codes, scales, Float8Scaling.Single, (ScaleLayout)9), ["layout", "9"] },
            { () => Float8Quantizer.Quantize<float>(values, 2, codes, scales, Float8Scaling.Single, default), ["scales", "8", "128"] },
            { () => Float8Quantizer.Quantize<float>(values, 256, codes, packed.AsSpan(5), ScaleLayout.ColumnMajor), ["scales", "3", "4"] },
            { () => Float8Quantizer.Quantize<double>(new double[256], 128, codes, scales, Float8Scaling.Single, default), ["Double", "Half"] },
            { () => Float8Quantizer.Dequantize<long>(codes, 128, packed, new long[256], default), ["Int64", "Half"] },
            { () => Float8Quantizer.Dequantize(codes, 128, scales.AsSpan(1, 1), values, default), ["scales", "1", "2"] },
            { () => Float8Quantizer.Dequantize(codes, 128, packed, values.AsSpan(6), default), ["destination", "250", "256"] },
            { () => Float8Scales.Count(-1, 128, default), ["rows", "-1"] },
            { () => Float8Scales.PerRow(0), ["hidden", "0", "1048576"] },
            { () => ScaleLayouts.ColumnStride(1, 3), ["scaleBytes", "3", "16"] },
        };
    }

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void Mistakes_are_refused_by_name(Action call, string[] named)
    {
        ArgumentException error = Assert.ThrowsAny<ArgumentException>(call);
        Assert.All(named, each => Assert.Contains(each, error.Message, StringComparison.Ordinal));
    }

    /// <summary>Groups of very different size, zeros, subnormals, NaNs and infinities among them.</summary>
    private static float[] Values(int count, int seed)
    {
        var random = new Random(seed);
        float[] odd = [0, -0f, float.Epsilon, 1e-39f, float.NaN, float.PositiveInfinity, float.NegativeInfinity, 448, 3e38f];
        return [.. Enumerable.Range(0, count).Select(i => random.Next(200) == 0
            ? odd[random.Next(odd.Length)]
            : (random.NextSingle() - 0.5f) * MathF.Pow(10, (i / Group * 7 % 20) - 9))];
    }

    /// <summary>Compares codes, scales, gaps and what comes back with the documented formulas, one element after the other.</summary>
    private static void Check<T>(T[] values, int hidden, Float8Scaling form, ScaleLayout layout, VectorWidth width)
        where T : unmanaged
    {
        int rows = values.Length / hidden;
        (Float8E4M3[] codes, float[] scales) = Quantize<T>(values, hidden, form, layout, width);
        T[] back = Restore<T>(codes, hidden, scales, form, layout, width);
        var written = new HashSet<long>();
        for (int row = 0; row < rows; row++)
        {
            for (int start = 0; start < hidden; start += Group)
            {
                int at = (row * hidden) + start, length = Math.Min(Group, hidden - start);
                float magnitude = 1e-4f;
                foreach (T value in values.AsSpan(at, length))
                {
                    if (float.IsFinite(Elements.ToSingle(value))) magnitude = Math.Max(magnitude, Math.Abs(Elements.ToSingle(value)));
                }
                float scale = form == Float8Scaling.Single ? magnitude / 448 : (float)Math.Pow(2, Math.Ceiling(Math.Log2((double)magnitude / 448)));
                float factor = form == Float8Scaling.Single ? 448 / magnitude : 1 / scale;
                Assert.Equal(scale, ScaleOf(scales, row, start / Group, rows, hidden, form, layout));
                for (int i = at; i < at + length; i++)
                {
                    var code = Float8E4M3.FromSingle(Elements.ToSingle(values[i]) * factor);
                    if (code != codes[i]) Assert.Fail($"{values[i]} × {factor} became {codes[i].Bits:X2}, not {code.Bits:X2}");
                    T restored = Elements.FromSingle<T>(code.ToSingle() * scale);
                    if (!Bits(restored).SequenceEqual(Bits(back[i]))) Assert.Fail($"{code} × {scale} became {back[i]}, not {restored}");
                }
                written.Add(EntryOf(row, start / Group, rows, hidden, form, layout));
            }
        }
        for (int i = 0; i < scales.Length; i++)
            Assert.True(written.Contains(i) || BitConverter.SingleToUInt32Bits(scales[i]) == 0xA5A5A5A5, $"gap {i} was written");
        if (form == Float8Scaling.Packed && layout == ScaleLayout.RowMajor && rows > 0) CheckUnusedBytes(scales, hidden);
    }

    private static void CheckUnusedBytes(float[] scales, int hidden)
    {
        int groups = (hidden + Group - 1) / Group;
        byte[] row = MemoryMarshal.AsBytes(scales.AsSpan(0, Float8Scales.PackedPerRow(hidden))).ToArray();
        Assert.All(row[..groups], exponent => Assert.NotEqual(0, exponent));
        Assert.All(row[groups..], exponent => Assert.Equal(0, exponent));
    }

    private static (Float8E4M3[] Codes, float[] Scales) Quantize<T>(ReadOnlySpan<T> values, int hidden, Float8Scaling form)
        where T : unmanaged => Quantize(values, hidden, form, ScaleLayout.RowMajor, VectorWidths.Best);

    /// <summary>Works on poisoned buffers at odd addresses; packed scales come back as the same bits in floats.</summary>
    private static (Float8E4M3[] Codes, float[] Scales) Quantize<T>(
        ReadOnlySpan<T> values, int hidden, Float8Scaling form, ScaleLayout layout, VectorWidth width)
        where T : unmanaged
    {
        int rows = values.Length / hidden;
        long count = form == Float8Scaling.Packed ? Float8Scales.PackedCount(rows, hidden, layout) : Float8Scales.Count(rows, hidden, layout);
        byte[] source = new byte[MemoryMarshal.AsBytes(values).Length + 1];
        byte[] codes = new byte[values.Length + 1], scales = new byte[(count * 4) + 1];
        MemoryMarshal.AsBytes(values).CopyTo(source.AsSpan(1));
        codes.AsSpan().Fill(0xA5);
        scales.AsSpan().Fill(0xA5);
        ReadOnlySpan<T> from = MemoryMarshal.Cast<byte, T>(source.AsSpan(1));
        Span<Float8E4M3> to = MemoryMarshal.Cast<byte, Float8E4M3>(codes.AsSpan(1));
        Span<float> entries = MemoryMarshal.Cast<byte, float>(scales.AsSpan(1));
        if (form == Float8Scaling.Packed)
            Float8Quantizer.Quantize(from, hidden, to, MemoryMarshal.Cast<float, int>(entries), Float8Scaling.Packed, layout, width);
        else
            Float8Quantizer.Quantize(from, hidden, to, entries, form, layout, width);
        return (to.ToArray(), entries.ToArray());
    }

    private static T[] Restore<T>(Float8E4M3[] codes, int hidden, float[] scales, Float8Scaling form, ScaleLayout layout, VectorWidth width)
        where T : unmanaged
    {
        var back = new T[codes.Length];
        MemoryMarshal.AsBytes(back.AsSpan()).Fill(0xA5);
        if (form == Float8Scaling.Packed)
            Float8Quantizer.Dequantize<T, int>(codes, hidden, MemoryMarshal.Cast<float, int>(scales), back, layout, width);
        else
            Float8Quantizer.Dequantize<T, float>(codes, hidden, scales, back, layout, width);
        return back;
    }

    private static float ScaleOf(float[] scales, int row, int group, int rows, int hidden, Float8Scaling form, ScaleLayout layout)
    {
        float entry = scales[EntryOf(row, group, rows, hidden, form, layout)];
        if (form != Float8Scaling.Packed) return entry;
        byte exponent = BitConverter.GetBytes(entry)[group % 4];
        return (float)Math.Pow(2, exponent - 127);
    }

    private static int EntryOf(int row, int group, int rows, int hidden, Float8Scaling form, ScaleLayout layout)
    {
        int groups = (hidden + Group - 1) / Group, columns = form == Float8Scaling.Packed ? (groups + 3) / 4 : groups;
        int column = form == Float8Scaling.Packed ? group / 4 : group, stride = (rows + 3) / 4 * 4;
        return layout == ScaleLayout.RowMajor ? (row * columns) + column : (column * stride) + row;
    }

    private static ReadOnlySpan<byte> Bits<T>(in T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value));
}

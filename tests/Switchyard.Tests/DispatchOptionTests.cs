using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using CsCheck;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Cpu.Quantization;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Random options of dispatches: refused by the name of one that is wrong, or a result laid out as they and the layout say.</summary>
public sealed class DispatchOptionTests : IDisposable
{
    private const int TopK = 2;
    private const int Hidden = 132;

    /// <summary>Of expert 0 two, of 1, 2 and 5 one each.</summary>
    private static readonly int[] _choices = [0, 1, 2, -1, 5, 0];

    private static readonly float[] _x = [.. Enumerable.Range(0, 3 * Hidden).Select(i => 1.25f + (i * 0.7f))];

    private static readonly Gen<(DispatchOptions Options, bool IsScaled)> _calls =
        from layout in Gen.OneOf(RowLayout.RankMajor, RowLayout.ExpertMajor, RowLayout.ExpertMajor, (RowLayout)2)
        from alignment in Gen.OneOf(1, 1, 2, 7, Limits.MaxExpertAlignment, 0, -3, Limits.MaxExpertAlignment + 1)
        from zeroPadding in Gen.Bool
        from fixedShape in Gen.Bool
        from preReduce in Gen.Bool
        from scaleLayout in Gen.OneOf(ScaleLayout.RowMajor, ScaleLayout.ColumnMajor, (ScaleLayout)2)
        from quantize in Gen.OneOf(Float8Scaling.None, Float8Scaling.Single, Float8Scaling.PowerOfTwo, Float8Scaling.Packed, (Float8Scaling)4)
        from isScaled in Gen.Bool
        select (new DispatchOptions
        {
            Layout = layout,
            ExpertAlignment = alignment,
            ZeroPadding = zeroPadding,
            FixedShape = fixedShape,
            PreReduce = preReduce,
            ScaleLayout = scaleLayout,
            Quantize = quantize,
        }, isScaled);

    private readonly ExpertGroup _group = ExpertGroup.CreateLocal(1)[0];
    private readonly ExpertBuffer _buffer;

    public DispatchOptionTests() => _buffer = ExpertBuffer.CreateAsync(_group, new()
    {
        Backend = CpuBackend.Instance,
        Experts = 6,
        TopK = TopK,
        Hidden = Hidden,
        MaxTokensPerRank = 3,
        Element = ElementType.Single,
        MemoryBudget = 1 << 24,
    }).GetAwaiter().GetResult();

    public void Dispose()
    {
        _buffer.Dispose();
        _group.Dispose();
    }

    [Fact]
    public void A_dispatch_names_what_is_wrong_or_is_laid_out_as_told() => _calls.Sample((options, isScaled) =>
    {
        string[] wrong = [.. WrongIn(options, isScaled)];
        if (wrong.Length == 0)
        {
            using Dispatched d = Dispatch(options, isScaled);
            Assert.Equal(RowsOf(options), d.RowCount);
            LiesAsTheLayoutSays(d, options, FormatOf(options, isScaled));
            if (options.ZeroPadding && !options.FixedShape) PaddingIsZero(d, options.ScaleLayout);
            return;
        }
        ArgumentException error = Assert.ThrowsAny<ArgumentException>(() => Dispatch(options, isScaled));
        Assert.Contains(error.ParamName, wrong);
        Assert.Contains($"DispatchOptions.{error.ParamName}", error.Message, StringComparison.Ordinal);
    }, iter: 500, threads: 1);

    /// <summary>All bytes of the result's region are the same.</summary>
    [Fact]
    public void Rows_that_are_quantized_on_the_way_arrive_as_if_they_had_been_before() => _calls.Sample((options, _) =>
    {
        if (options.Quantize == Float8Scaling.None || WrongIn(options, isScaled: false).Any()) return;
        byte[] onTheWay = BytesOf(Dispatch(options, isScaled: false), options);

        Poison();
        var rows = new Float8E4M3[3 * Hidden];
        var before = options with { Quantize = Float8Scaling.None };
        if (options.Quantize == Float8Scaling.Packed)
        {
            int[] packed = new int[Float8Scales.PackedCount(3, Hidden, ScaleLayout.RowMajor)];
            Float8Quantizer.Quantize<float>(_x, Hidden, rows, packed, ScaleLayout.RowMajor);
            Assert.Equal(onTheWay, BytesOf(_buffer.Dispatch(new ScaledRows(rows, packed), _choices, default, before), options));
            return;
        }
        float[] scales = new float[Float8Scales.Count(3, Hidden, ScaleLayout.RowMajor)];
        Float8Quantizer.Quantize<float>(_x, Hidden, rows, scales, options.Quantize, ScaleLayout.RowMajor);
        Assert.Equal(onTheWay, BytesOf(_buffer.Dispatch(new ScaledRows(rows, scales), _choices, default, before), options));
    }, iter: 100, threads: 1);

    private static IEnumerable<string> WrongIn(DispatchOptions options, bool isScaled)
    {
        bool isRankMajor = options.Layout == RowLayout.RankMajor;
        if (!Enum.IsDefined(options.Layout)) yield return nameof(options.Layout);
        if (!Enum.IsDefined(options.ScaleLayout)) yield return nameof(options.ScaleLayout);
        if (options.ExpertAlignment is < 1 or > 4096 || (isRankMajor && options.ExpertAlignment != 1)) yield return nameof(options.ExpertAlignment);
        if (isRankMajor && options.ZeroPadding) yield return nameof(options.ZeroPadding);
        if (isRankMajor && options.PreReduce) yield return nameof(options.PreReduce);
        if (!Enum.IsDefined(options.Quantize) || (isScaled && options.Quantize != Float8Scaling.None)) yield return nameof(options.Quantize);
    }

    private Dispatched Dispatch(DispatchOptions options, bool isScaled)
    {
        Poison();
        if (!isScaled) return _buffer.Dispatch(_x, _choices, default, options);
        byte[] rows = [.. Enumerable.Range(0, 3 * 5).Select(i => (byte)(i + 1))];
        float[] scales = [.. Enumerable.Range(1, 3 * 3).Select(i => (float)i)];
        return _buffer.Dispatch(new ScaledRows(rows, scales), _choices, default, options);
    }

    private static RowFormat FormatOf(DispatchOptions options, bool isScaled) => (isScaled, options.Quantize) switch
    {
        (true, _) => new(5, 3 * sizeof(float), ElementType.Byte, ElementType.Single, options.ScaleLayout),
        (false, Float8Scaling.None) => new(Hidden * sizeof(float), 0, ElementType.Single, ElementType.None, ScaleLayout.RowMajor),
        (false, Float8Scaling.Packed) => new(Hidden, sizeof(int), ElementType.Float8E4M3, ElementType.Int32, options.ScaleLayout),
        _ => new(Hidden, 2 * sizeof(float), ElementType.Float8E4M3, ElementType.Single, options.ScaleLayout),
    };

    /// <summary>What nobody writes must not look like zeros.</summary>
    private unsafe void Poison() => new Span<byte>(_buffer.ArenaBase + _buffer.Layout.PoolOffset, (int)_buffer.Layout.PoolBytes).Fill(0xA5);

    private long RowsOf(DispatchOptions options)
    {
        if (options.FixedShape) return _buffer.Options.EstimateMemory(1).ReceiveCapacity + (6L * (options.ExpertAlignment - 1));
        if (options.Layout == RowLayout.RankMajor) return 3;
        int alignment = options.ExpertAlignment;
        return alignment == 1 ? 5 : (3 * alignment) + Math.Max(2, alignment);
    }

    private static RegionLayout LayoutOf(Dispatched d, DispatchOptions options, RowFormat format) =>
        new(d.RowCount, 0, new RegionShape(format, options.Layout == RowLayout.RankMajor ? TopK : 1, options.FixedShape ? 14 : 0, 0));

    private static void LiesAsTheLayoutSays(Dispatched d, DispatchOptions options, RowFormat format)
    {
        int columns = options.Layout == RowLayout.RankMajor ? TopK : 1, rows = d.RowCount;
        RegionLayout layout = LayoutOf(d, options, format);
        ref byte start = ref Start(d);
        Assert.Equal((rows, format.RowLength, format.Element), (d.Rows.Rows, d.Rows.RowLength, d.Rows.Element));
        Assert.Equal(layout.SourcesOffset, OffsetFrom(ref start, d.Sources));
        Assert.Equal(layout.IndicesOffset, OffsetFrom(ref start, d.TopkIndices));
        Assert.Equal(layout.WeightsOffset, OffsetFrom<float>(ref start, d.TopkWeights));
        Assert.Equal((rows, rows * columns, rows * columns), (d.Sources.Length, d.TopkIndices.Length, d.TopkWeights.Length));
        if (options.FixedShape) Assert.Equal(layout.CountsOffset, OffsetFrom<int>(ref start, d.Counts.AsSpan<int>()));
        Assert.Equal(format.ScaleElement, d.Scales.Element);
        if (d.Scales.IsAbsent) return;

        int scales = format.ScalesPerRow;
        bool byColumns = options.ScaleLayout == ScaleLayout.ColumnMajor;
        Assert.Equal(layout.ScalesOffset, OffsetFrom(ref start, BytesOf(d.Scales, 0)));
        Assert.Equal(byColumns ? (scales, rows) : (rows, scales), (d.Scales.Rows, d.Scales.RowLength));
        Assert.Equal(byColumns ? ScaleLayouts.ColumnStride(rows, sizeof(float)) : scales, d.Scales.RowStride);
    }

    private static ref byte Start(Dispatched d) => ref MemoryMarshal.GetReference(BytesOf(d.Rows, 0));

    private static long OffsetFrom<T>(ref byte start, ReadOnlySpan<T> part)
        where T : unmanaged =>
        Unsafe.ByteOffset(ref start, ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(part)));

    /// <summary>A result's region, which is given back.</summary>
    private static byte[] BytesOf(Dispatched d, DispatchOptions options)
    {
        using Dispatched result = d;
        return MemoryMarshal.CreateSpan(ref Start(d), (int)LayoutOf(d, options, FormatOf(options, isScaled: false)).Bytes).ToArray();
    }

    private static ReadOnlySpan<byte> BytesOf(TensorView view, int row) => view.Element switch
    {
        ElementType.Single => MemoryMarshal.AsBytes(view.Row<float>(row)),
        ElementType.Int32 => MemoryMarshal.AsBytes(view.Row<int>(row)),
        ElementType.Float8E4M3 => MemoryMarshal.AsBytes(view.Row<Float8E4M3>(row)),
        _ => view.Row<byte>(row),
    };

    private static void PaddingIsZero(Dispatched d, ScaleLayout scaleLayout)
    {
        for (int row = 0; row < d.RowCount; row++)
        {
            bool isPadding = d.Sources[row].Rank < 0;
            Assert.Equal(isPadding, BytesOf(d.Rows, row).IndexOfAnyExcept((byte)0) < 0);
            int scales = d.Scales.IsAbsent ? 0 : (int)(scaleLayout == ScaleLayout.RowMajor ? d.Scales.RowLength : d.Scales.Rows);
            for (int scale = 0; scale < scales; scale++)
            {
                (int at, int of) = scaleLayout == ScaleLayout.RowMajor ? (row, scale) : (scale, row);
                Assert.Equal(isPadding, BytesOf(d.Scales, at).Slice(of * sizeof(float), sizeof(float)).IndexOfAnyExcept((byte)0) < 0);
            }
        }
    }
}

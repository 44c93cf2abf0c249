using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using CsCheck;
using Switchyard.Arena;
using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Random options of dispatches: refused by the name of one that is wrong, or a result laid out as they and the layout say.</summary>
public sealed class DispatchOptionTests : IDisposable
{
    private const int TopK = 2;
    private const int Scales = 3;
    private const int RowBytes = 5;

    /// <summary>Of expert 0 two, of 1, 2 and 5 one each.</summary>
    private static readonly int[] _choices = [0, 1, 2, -1, 5, 0];

    private static readonly Gen<DispatchOptions> _options =
        from layout in Gen.OneOf(RowLayout.RankMajor, RowLayout.ExpertMajor, RowLayout.ExpertMajor, (RowLayout)2)
        from alignment in Gen.OneOf(1, 1, 2, 7, Limits.MaxExpertAlignment, 0, -3, Limits.MaxExpertAlignment + 1)
        from zeroPadding in Gen.Bool
        from fixedShape in Gen.Bool
        from preReduce in Gen.Bool
        from scaleLayout in Gen.OneOf(ScaleLayout.RowMajor, ScaleLayout.ColumnMajor, (ScaleLayout)2)
        select new DispatchOptions
        {
            Layout = layout,
            ExpertAlignment = alignment,
            ZeroPadding = zeroPadding,
            FixedShape = fixedShape,
            PreReduce = preReduce,
            ScaleLayout = scaleLayout,
        };

    private readonly ExpertGroup _group = ExpertGroup.CreateLocal(1)[0];
    private readonly ExpertBuffer _buffer;

    public DispatchOptionTests() => _buffer = ExpertBuffer.CreateAsync(_group, new()
    {
        Backend = CpuBackend.Instance,
        Experts = 6,
        TopK = TopK,
        Hidden = 4,
        MaxTokensPerRank = 3,
        Element = ElementType.Single,
        MemoryBudget = 1 << 23,
    }).GetAwaiter().GetResult();

    public void Dispose()
    {
        _buffer.Dispose();
        _group.Dispose();
    }

    [Fact]
    public void A_dispatch_names_what_is_wrong_or_is_laid_out_as_told() => _options.Sample(options =>
    {
        string[] wrong = [.. WrongIn(options)];
        if (wrong.Length == 0)
        {
            using Dispatched d = Dispatch(options);
            Assert.Equal(RowsOf(options), d.RowCount);
            LiesAsTheLayoutSays(d, options);
            if (options.ZeroPadding && !options.FixedShape) PaddingIsZero(d, options.ScaleLayout);
            return;
        }
        ArgumentException error = Assert.ThrowsAny<ArgumentException>(() => Dispatch(options));
        Assert.Contains(error.ParamName, wrong);
        Assert.Contains($"DispatchOptions.{error.ParamName}", error.Message, StringComparison.Ordinal);
    }, iter: 500, threads: 1);

    private static IEnumerable<string> WrongIn(DispatchOptions options)
    {
        bool isRankMajor = options.Layout == RowLayout.RankMajor;
        if (!Enum.IsDefined(options.Layout)) yield return nameof(options.Layout);
        if (!Enum.IsDefined(options.ScaleLayout)) yield return nameof(options.ScaleLayout);
        if (options.ExpertAlignment is < 1 or > 4096 || (isRankMajor && options.ExpertAlignment != 1)) yield return nameof(options.ExpertAlignment);
        if (isRankMajor && options.ZeroPadding) yield return nameof(options.ZeroPadding);
        if (isRankMajor && options.PreReduce) yield return nameof(options.PreReduce);
    }

    private Dispatched Dispatch(DispatchOptions options)
    {
        // What nobody writes must not look like zeros.
        MemoryMarshal.AsBytes(PoolOf(_buffer)).Fill(0xA5);
        byte[] rows = [.. Enumerable.Range(1, 3 * RowBytes).Select(i => (byte)i)];
        float[] scales = [.. Enumerable.Range(1, 3 * Scales).Select(i => (float)i)];
        return _buffer.Dispatch(new ScaledRows(rows, scales), _choices, default, options);
    }

    private static unsafe Span<byte> PoolOf(ExpertBuffer buffer) => new(buffer.ArenaBase + buffer.Layout.PoolOffset, (int)buffer.Layout.PoolBytes);

    private long RowsOf(DispatchOptions options)
    {
        if (options.FixedShape) return _buffer.Options.EstimateMemory(1).ReceiveCapacity + (6L * (options.ExpertAlignment - 1));
        if (options.Layout == RowLayout.RankMajor) return 3;
        int alignment = options.ExpertAlignment;
        return alignment == 1 ? 5 : (3 * alignment) + Math.Max(2, alignment);
    }

    private static void LiesAsTheLayoutSays(Dispatched d, DispatchOptions options)
    {
        int columns = options.Layout == RowLayout.RankMajor ? TopK : 1, rows = d.RowCount;
        var format = new RowFormat(RowBytes, Scales * sizeof(float), ElementType.Byte, ElementType.Single, options.ScaleLayout);
        var layout = new RegionLayout(rows, 0, new RegionShape(format, columns, options.FixedShape ? 14 : 0, 0));
        ref byte start = ref MemoryMarshal.GetReference(d.Rows.AsSpan<byte>());
        Assert.Equal((rows, RowBytes), (d.Rows.Rows, d.Rows.RowLength));
        Assert.Equal(layout.ScalesOffset, OffsetFrom<float>(ref start, d.Scales.Row<float>(0)));
        Assert.Equal(layout.SourcesOffset, OffsetFrom(ref start, d.Sources));
        Assert.Equal(layout.IndicesOffset, OffsetFrom(ref start, d.TopkIndices));
        Assert.Equal(layout.WeightsOffset, OffsetFrom<float>(ref start, d.TopkWeights));
        Assert.Equal((rows, rows * columns, rows * columns), (d.Sources.Length, d.TopkIndices.Length, d.TopkWeights.Length));
        if (options.FixedShape) Assert.Equal(layout.CountsOffset, OffsetFrom<int>(ref start, d.Counts.AsSpan<int>()));

        bool byColumns = options.ScaleLayout == ScaleLayout.ColumnMajor;
        Assert.Equal(byColumns ? (Scales, rows) : (rows, Scales), (d.Scales.Rows, d.Scales.RowLength));
        Assert.Equal(byColumns ? ScaleLayouts.ColumnStride(rows, sizeof(float)) : Scales, d.Scales.RowStride);
    }

    private static long OffsetFrom<T>(ref byte start, ReadOnlySpan<T> part)
        where T : unmanaged =>
        Unsafe.ByteOffset(ref start, ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(part)));

    private static void PaddingIsZero(Dispatched d, ScaleLayout scaleLayout)
    {
        for (int row = 0; row < d.RowCount; row++)
        {
            bool isPadding = d.Sources[row].Rank < 0;
            Assert.Equal(isPadding, d.Rows.Row<byte>(row).IndexOfAnyExcept((byte)0) < 0);
            for (int scale = 0; scale < Scales; scale++)
            {
                float value = scaleLayout == ScaleLayout.RowMajor ? d.Scales.Row<float>(row)[scale] : d.Scales.Row<float>(scale)[row];
                Assert.Equal(isPadding, value == 0);
            }
        }
    }
}

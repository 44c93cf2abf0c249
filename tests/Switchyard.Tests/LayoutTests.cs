using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using CsCheck;
using Switchyard.Arena;
using Switchyard.Protocol;
using Switchyard.Transports;
using Xunit;

namespace Switchyard.Tests;

public class LayoutTests
{
    private static readonly Gen<RegionShape> _shapes =
        from rowBytes in Gen.OneOf(Gen.Int[1, 64], Gen.Int[1, 20000])
        from scales in Gen.Int[0, 64]
        from scaleLayout in Gen.Bool.Select(byColumns => byColumns ? ScaleLayout.ColumnMajor : ScaleLayout.RowMajor)
        from columns in Gen.Int[1, 64]
        from countWords in Gen.Int[0, 100]
        from groupColumns in Gen.Int[0, 64]
        let format = new RowFormat(rowBytes, 4 * scales, ElementType.Byte, ElementType.Single, scaleLayout)
        select new RegionShape(format, columns, countWords, groupColumns);

    /// <summary>The layout is a contract between processes and, later, languages: any change shows as a difference to this file.</summary>
    [Fact]
    public void Layout_is_the_golden_one()
    {
        string golden = Path.Combine(Repository.Root, "tests/Switchyard.Tests/Golden/arena-layout.txt");
        Assert.Equal(File.ReadAllText(golden), Describe());
    }

    [Fact]
    public void Parts_of_an_arena_do_not_overlap() =>
        Gen.Select(Gen.Int[1, Limits.MaxRanks], Gen.Int[1, Limits.MaxExperts], Gen.Int[1, 64], Gen.Int[1, 10000]).Sample((ranks, experts, topK, hidden) =>
        {
            var layout = new ArenaLayout(ranks, experts, topK, hidden, ElementType.BFloat16, 12345);
            var parts = new List<(long Start, long End)> { (0, 64), (layout.DoorbellOffset, layout.DoorbellOffset + 64), (layout.SleeperOffset, layout.SleeperOffset + 64), (layout.AbortOffset, layout.AbortOffset + 64) };
            for (int rank = 0; rank <= ranks; rank++) parts.Add((layout.FaultOf(rank), layout.FaultOf(rank) + 128));
            for (int rank = 0; rank < ranks; rank++)
            {
                parts.Add((layout.ArrivalOf(rank), layout.ArrivalOf(rank) + 64));
                parts.Add((layout.DoneOf(rank), layout.DoneOf(rank) + 64));
                parts.Add((layout.ClosedOf(rank), layout.ClosedOf(rank) + 64));
                for (int epoch = 0; epoch < ArenaLayout.RingDepth; epoch++) parts.Add((layout.EntryOf(rank, epoch), layout.EntryOf(rank, epoch) + layout.EntryBytes));
            }
            parts.Add((layout.PoolOffset, layout.TotalBytes));
            parts.Sort();
            for (int i = 1; i < parts.Count; i++) Assert.True(parts[i - 1].End <= parts[i].Start && parts[i].Start % 64 == 0);
            Assert.True(layout.ExpertCountsOffset + (4 * experts) <= layout.EntryBytes);
            Assert.Equal(0, layout.PoolOffset % ArenaLayout.PageBytes);
        }, iter: 300);

    [Fact]
    public void Parts_of_a_region_do_not_overlap_and_grow_with_its_rows() =>
        Gen.Select(Gen.Int[0, 5000], Gen.Int[0, 5000], _shapes).Sample((rows, grouped, shape) =>
        {
            int groups = Math.Min(rows, grouped), columns = shape.Columns;
            var region = new RegionLayout(rows, groups, shape);
            Assert.True((long)rows * shape.Format.RowBytes <= region.ScalesOffset);
            Assert.True(region.ScalesOffset + ((long)rows * shape.Format.ScaleBytes) <= region.SourcesOffset);
            Assert.True(region.SourcesOffset + (8L * rows) <= region.IndicesOffset);
            Assert.True(region.IndicesOffset + (4L * rows * columns) <= region.WeightsOffset);
            Assert.True(region.WeightsOffset + (4L * rows * columns) <= region.CountsOffset);
            Assert.True(region.CountsOffset + (4L * shape.CountWords) <= region.GroupsOffset);
            Assert.True(region.GroupsOffset + (4L * groups * shape.GroupColumns) <= region.Bytes);
            Assert.True(region.Bytes <= new RegionLayout(rows + 1, groups, shape).Bytes);
            long[] offsets = [region.ScalesOffset, region.SourcesOffset, region.IndicesOffset, region.WeightsOffset, region.CountsOffset, region.GroupsOffset, region.Bytes];
            Assert.All(offsets, offset => Assert.Equal(0, offset % 64));
        });

    [Fact]
    public void Scale_columns_are_apart_and_aligned() =>
        Gen.Select(Gen.Int[1, 5000], Gen.Int[1, 64], Gen.Int[0, 2].Select(i => new[] { ElementType.Byte, ElementType.Single, ElementType.Half }[i])).Sample((rows, scales, element) =>
        {
            int size = element.SizeInBytes();
            var format = new RowFormat(10, scales * size, ElementType.Byte, element, ScaleLayout.ColumnMajor);
            Assert.Equal(scales, format.ScalesPerRow);
            Assert.True(format.ScaleColumnBytes(rows) >= (long)rows * size);
            Assert.True(format.ScaleColumnBytes(rows) < ((long)rows * size) + 16);
            Assert.Equal(0, format.ScaleColumnBytes(rows) % 16);
            Assert.Equal(scales * format.ScaleColumnBytes(rows), format.ScalesBytes(rows));
            Assert.Equal((long)rows * scales * size, (format with { ScaleLayout = ScaleLayout.RowMajor }).ScalesBytes(rows));
        });

    [Fact]
    public void A_column_stride_is_for_rows_and_scales_that_can_be()
    {
        Assert.Equal(0, ScaleLayouts.ColumnStride(0, 4));
        Assert.Equal((16, 4, 2, 1), (ScaleLayouts.ColumnStride(1, 1), ScaleLayouts.ColumnStride(1, 4), ScaleLayouts.ColumnStride(1, 8), ScaleLayouts.ColumnStride(1, 16)));
        Assert.Throws<ArgumentOutOfRangeException>("rows", () => ScaleLayouts.ColumnStride(-1, 4));
        Assert.All([-1, 0, 3, 12, 32], bytes => Assert.Contains("8 or 16", Assert.Throws<ArgumentOutOfRangeException>("scaleBytes", () => ScaleLayouts.ColumnStride(1, bytes)).Message, StringComparison.Ordinal));
    }

    [Fact]
    public void An_arena_of_another_rank_generation_or_layout_is_not_taken()
    {
        var layout = new ArenaLayout(2, 8, 2, 16, ElementType.Single, 4096);
        var longer = new ArenaLayout(2, 8, 2, 16, ElementType.Single, 8192);
        ArenaMemory arena = Cpu.CpuBackend.Instance.ScaleUp.Allocate(layout.TotalBytes), tooLong = Cpu.CpuBackend.Instance.ScaleUp.Allocate(longer.TotalBytes);
        ArenaHeader.Write(arena, 1, 7, layout);
        ArenaHeader.Write(tooLong, 1, 7, layout);
        Assert.True(ArenaHeader.Matches(arena, 1, 7, layout));
        Assert.False(ArenaHeader.Matches(arena, 0, 7, layout));
        Assert.False(ArenaHeader.Matches(arena, 1, 8, layout));
        Assert.False(ArenaHeader.Matches(arena, 1, 7, longer));
        Assert.False(ArenaHeader.Matches(tooLong, 1, 7, layout));
        arena.Release();
        tooLong.Release();
    }

    [Fact]
    public void Most_rows_that_fit_are_the_most() =>
        Gen.Select(Gen.OneOf(Gen.Long[0, 1000], Gen.Long[0, 1 << 22]), Gen.Int[0, 1000], _shapes).Sample((bytes, some, shape) =>
        {
            long rows = RegionLayout.MaxRows(bytes, shape), exactly = new RegionLayout(some, some, shape).Bytes;
            Assert.True(rows == 0 || (rows > 0 && new RegionLayout(rows, rows, shape).Bytes <= bytes));
            Assert.True(new RegionLayout(rows + 1, rows + 1, shape).Bytes > bytes);
            Assert.True(RegionLayout.MaxRows(exactly, shape) >= some);
        }, iter: 1000);

    [Fact]
    public void Epochs_compare_across_the_wrap_of_39_bits() =>
        Gen.Select(Gen.Long[0, long.MaxValue >> 20], Gen.Int[-1000, 1000], Gen.Int[0, Limits.MaxRowsPerPeer]).Sample((epoch, ahead, count) =>
        {
            var word = new EpochWord(epoch + ahead, count);
            Assert.Equal(ahead >= 0, word.HasReached(epoch));
            Assert.Equal(count, word.Count);
            Assert.True(word.IsWhole);
            Assert.Equal(epoch + ahead, word.EpochNear(epoch));
        });

    private static string Describe()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"header {Unsafe.SizeOf<ArenaHeader>()} announcement {Unsafe.SizeOf<Announcement>()} signature {Unsafe.SizeOf<CallSignature>()} fault {Unsafe.SizeOf<FaultRecord>()}\n");
        foreach (string field in new[] { "Flag", "Signature", "RegionOffset", "RegionRows", "WeightsOffset", "NeededBytes", "AvailableBytes", "Epoch", "Check" })
            text.Append(CultureInfo.InvariantCulture, $"announcement.{field} {Marshal.OffsetOf<Announcement>(field)}\n");
        foreach ((int ranks, int experts, int topK, int hidden) in new[] { (1, 1, 1, 1), (2, 64, 8, 7168), (8, 256, 8, 7168), (5, 37, 3, 33) })
        {
            var layout = new ArenaLayout(ranks, experts, topK, hidden, ElementType.BFloat16, 1 << 20);
            text.Append(CultureInfo.InvariantCulture, $"ranks {ranks} experts {experts} topK {topK} hidden {hidden}: ");
            text.Append(CultureInfo.InvariantCulture, $"doorbell {layout.DoorbellOffset} sleeper {layout.SleeperOffset} abort {layout.AbortOffset} faults {layout.FaultsOffset} ");
            text.Append(CultureInfo.InvariantCulture, $"arrivals {layout.ArrivalsOffset} done {layout.DoneOffset} closed {layout.ClosedOffset} ring {layout.RingOffset} entry {layout.EntryBytes} ");
            text.Append(CultureInfo.InvariantCulture, $"counts {layout.RankCountsOffset} {layout.ExpertCountsOffset} pool {layout.PoolOffset} total {layout.TotalBytes}\n");
            foreach (RowLayout rows in new[] { RowLayout.RankMajor, RowLayout.ExpertMajor })
            {
                var scaled = new RowFormat(hidden, 4 * ((hidden + 127) / 128), ElementType.Float8E4M3, ElementType.Single, ScaleLayout.ColumnMajor);
                Append(text, $"10 rows {rows}", new RegionLayout(10, 0, new RegionShape(layout.Format, layout.ColumnsOf(rows), 0, 0)));
                Append(text, $"10 scaled rows {rows}, fixed shape, pre-reduced", new RegionLayout(10, 10, new RegionShape(scaled, layout.ColumnsOf(rows), 2 + (2 * experts), topK)));
            }
        }
        return text.ToString();
    }

    private static void Append(StringBuilder text, string name, RegionLayout region) => text.Append(
        CultureInfo.InvariantCulture,
        $"  {name}: scales {region.ScalesOffset} sources {region.SourcesOffset} indices {region.IndicesOffset} weights {region.WeightsOffset} counts {region.CountsOffset} groups {region.GroupsOffset} bytes {region.Bytes}\n");
}

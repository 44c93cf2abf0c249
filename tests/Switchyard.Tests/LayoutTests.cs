using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using CsCheck;
using Switchyard.Arena;
using Switchyard.Protocol;
using Xunit;

namespace Switchyard.Tests;

public class LayoutTests
{
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
        Gen.Select(Gen.Int[0, 5000], Gen.Int[1, 20000], Gen.Int[1, 64]).Sample((rows, rowBytes, columns) =>
        {
            var region = new RegionLayout(rows, rowBytes, columns);
            Assert.True((long)rows * rowBytes <= region.SourcesOffset);
            Assert.True(region.SourcesOffset + (8L * rows) <= region.IndicesOffset);
            Assert.True(region.IndicesOffset + (4L * rows * columns) <= region.WeightsOffset);
            Assert.True(region.WeightsOffset + (4L * rows * columns) <= region.Bytes);
            Assert.True(region.Bytes <= new RegionLayout(rows + 1, rowBytes, columns).Bytes);
        });

    [Fact]
    public void Most_rows_that_fit_are_the_most() =>
        Gen.Select(Gen.Long[0, 1 << 22], Gen.Int[1, 20000], Gen.Int[1, 64]).Sample((bytes, rowBytes, columns) =>
        {
            long rows = RegionLayout.MaxRows(bytes, rowBytes, columns);
            Assert.True(rows == 0 || new RegionLayout(rows, rowBytes, columns).Bytes <= bytes);
            // Four parts are rounded up to a line each, so a row more may just not be found.
            Assert.True(new RegionLayout(rows + 1, rowBytes, columns).Bytes > bytes);
        });

    [Fact]
    public void Epochs_compare_across_the_wrap_of_40_bits() =>
        Gen.Select(Gen.Long[0, long.MaxValue >> 20], Gen.Int[-1000, 1000], Gen.Int[0, Limits.MaxRowsPerPeer]).Sample((epoch, ahead, count) =>
        {
            var word = new EpochWord(epoch + ahead, count);
            Assert.Equal(ahead >= 0, word.HasReached(epoch));
            Assert.Equal(count, word.Count);
            Assert.Equal(epoch + ahead, word.EpochNear(epoch));
        });

    private static string Describe()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"header {Unsafe.SizeOf<ArenaHeader>()} announcement {Unsafe.SizeOf<Announcement>()} signature {Unsafe.SizeOf<CallSignature>()} fault {Unsafe.SizeOf<FaultRecord>()}\n");
        foreach (string field in new[] { "Flag", "Signature", "RegionOffset", "RegionRows", "WeightsOffset", "NeededBytes", "AvailableBytes", "Epoch" })
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
                RegionLayout region = layout.Region(10, rows);
                text.Append(CultureInfo.InvariantCulture, $"  10 rows {rows}: sources {region.SourcesOffset} indices {region.IndicesOffset} weights {region.WeightsOffset} bytes {region.Bytes}\n");
            }
        }
        return text.ToString();
    }
}

using System.Diagnostics;
using Switchyard.Cli.Bench;
using Switchyard.Cli.Bench.Report;
using Switchyard.Cli.Bench.Work;
using Xunit;

namespace Switchyard.Cli.Tests.Bench;

public sealed class MeasurementTests
{
    private static readonly Shape _shape = new()
    {
        Ranks = 2,
        Processes = false,
        Tokens = 10,
        Hidden = 500,
        TopK = 1,
        Experts = 2,
        Element = "bf16",
        Layout = RowLayout.RankMajor,
        Routing = "one-hot",
    };

    [Fact]
    public void Percentiles_are_by_nearest_rank()
    {
        IEnumerable<long> ticks = Enumerable.Range(1, 200).Select(Ticks).Reverse();
        Assert.Equal(new Percentiles(100, 198), Percentiles.Of(ticks));
        Assert.Equal(new Percentiles(7, 7), Percentiles.Of([Ticks(7)]));
    }

    [Fact]
    public void A_phase_lasts_from_the_first_start_to_the_last_end()
    {
        var measured = Measurement.Of(new Job(_shape, 2, 0), [RankAt(0, 10), RankAt(5, 40)]);
        Assert.Equal(45, measured.DispatchUs.P50);
        Assert.Equal(90, measured.PairUs.P50);
        // 20 tokens and 20 rows of 1000 bytes in 45 us; both ranks copy 9000 bytes in it, each read and written.
        Assert.Equal(20, measured.Rows);
        Assert.Equal(0.889, measured.DispatchGBps);
        Assert.Equal(0.8, measured.CopyGBps);
        Assert.Equal(1.111, measured.DispatchFractionOfCopy);
        Assert.True(measured.Verified);
    }

    [Fact]
    public void The_fraction_of_the_copy_is_the_median_of_pairs()
    {
        // A machine that halves its speed after the first of three pairs: in each the phase runs at half the copy's rate.
        Interval[] phases = [At(100), At(200), At(200), At(900)], copies = [At(50), At(100), At(100)];
        RankResult rank = RankAt(0, 1) with { Dispatch = phases, Combine = phases, Copies = [copies, copies], CopyBytes = 20_000 };
        var measured = Measurement.Of(new Job(_shape, 4, 0), [rank, rank]);
        // 40000 bytes a phase, 80000 a copy, read and written.
        Assert.Equal(0.8, measured.CopyGBps);
        Assert.Equal(0.25, measured.DispatchFractionOfCopy);
        Assert.Equal(0.25, measured.CombineFractionOfCopy);
    }

    [Fact]
    public void Devices_are_told_of_beside_what_crossed_between_them()
    {
        // Three ranks on two devices: all rows go to rank 0, and rank 2 is on its device. Rank 2 copies nothing: rank 0 did it.
        Shape shape = _shape with { Ranks = 3, Experts = 3, Devices = [4, 7], Sms = 8 };
        RankResult rank = OnDevice(RankAt(0, 50), met: 3, step: 10);
        RankResult copying = rank with { Copies = [rank.Dispatch[..1]] };
        RankResult[] ranks = [copying, copying, rank with { Copies = [], CopyBytes = 0 }];
        var job = new Job(shape, 2, 0);
        Assert.All(ranks, (each, i) => Assert.True(each.Fits(job, i)));
        var measured = Measurement.Of(job, ranks);
        Assert.Equal(("cuda", 8, "here", "1"), (measured.Backend, measured.Sms, measured.Device, measured.Driver));
        Assert.Equal([4, 7], measured.Devices!);
        Assert.Equal((30, 10), (measured.Rows, measured.CrossedRows));
        // 30 and 10 rows of 1000 bytes in 50 us, over two devices; two copies of 9000 bytes, read and written.
        Assert.Equal((0.3, 0.1), (measured.DispatchLogicalGBps, measured.DispatchPhysicalGBps));
        Assert.Equal((0.3, 0.1), (measured.CombineLogicalGBps, measured.CombinePhysicalGBps));
        Assert.Equal(0.72, measured.CopyGBps);
        Assert.Equal((7, 6), (measured.HostDispatchUs!.Value.P50, measured.HostCombineUs!.Value.P99));
    }

    [Fact]
    public void One_device_has_nothing_that_crosses()
    {
        RankResult rank = OnDevice(RankAt(0, 50), met: 3, step: 10);
        var measured = Measurement.Of(new Job(_shape with { Devices = [0] }, 2, 0), [rank, rank with { CopyBytes = 0 }]);
        Assert.Null(measured.CrossedRows);
        Assert.Null(measured.DispatchPhysicalGBps);
        Assert.Equal(0.36, measured.CopyGBps);
    }

    [Fact]
    public void Parts_of_a_dispatch_end_with_the_last_rank_since_the_first_ones_met()
    {
        RankResult rank = RankAt(0, 50);
        var measured = Measurement.Of(new Job(_shape with { Devices = [0] }, 2, 0), [OnDevice(rank, met: 3, step: 10), OnDevice(rank, met: 2, step: 20) with { CopyBytes = 0 }]);
        Assert.Equal(new DispatchParts(20, 40, 60, 80, 100, 120, 140, 160), measured.DispatchPartsUs);
    }

    /// <summary>As a rank on a device reports: each part of a dispatch takes it as long as the others.</summary>
    private static RankResult OnDevice(RankResult rank, int met, int step) => rank with
    {
        HostDispatch = [Ticks(7)],
        HostCombine = [Ticks(6)],
        Parts = [.. Enumerable.Repeat<long[]>([.. Enumerable.Range(0, 9).Select(part => Ticks(met + (part * step)))], DispatchParts.Turns)],
    };

    private static Interval At(int microseconds) => new(0, Ticks(microseconds));

    [Fact]
    public void One_difference_on_one_rank_is_not_verified()
    {
        var measured = Measurement.Of(new Job(_shape, 2, 0), [RankAt(0, 1), RankAt(0, 1) with { Difference = "row 3 differs" }]);
        Assert.False(measured.Verified);
        Assert.Equal("rank 1: row 3 differs", measured.Difference);
    }

    [Fact]
    public void Allocations_count_by_the_repetitions_they_were_counted_in()
    {
        var measured = Measurement.Of(new Job(_shape, 5, 0), [RankAt(0, 1), RankAt(0, 1) with { AllocatedBytes = 96 }]);
        Assert.Equal(24, measured.AllocatedBytesPerStep);
    }

    private static long Ticks(int microseconds) => microseconds * (Stopwatch.Frequency / 1_000_000);

    private static RankResult RankAt(int start, int duration)
    {
        var interval = new Interval(Ticks(start), Ticks(start + duration));
        Interval[] twice = [interval, interval];
        return new RankResult { Dispatch = twice, Combine = twice, Copies = [twice, twice], CopyBytes = 9000, AllocatedBytes = 0, Device = "here", Driver = "1" };
    }
}

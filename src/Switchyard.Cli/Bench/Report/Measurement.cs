using Switchyard.Cli.Bench.Peers;
using Switchyard.Cli.Bench.Work;

namespace Switchyard.Cli.Bench.Report;

/// <summary>A measured shape, in the words and the order of the result file.</summary>
internal sealed record Measurement
{
    public required string Backend { get; init; }
    public string Mode { get; } = "throughput";
    public required int Ranks { get; init; }
    public required bool Processes { get; init; }
    public required int Tokens { get; init; }
    public required int Hidden { get; init; }
    public required int TopK { get; init; }
    public required int Experts { get; init; }
    public required string Element { get; init; }
    public required string Layout { get; init; }

    /// <summary>Multiprocessors of a GPU that a rank took; null for the library's choice, and on the CPU.</summary>
    public int? Sms { get; init; }

    /// <summary>Received rows, over all ranks.</summary>
    public required long Rows { get; init; }

    public required bool Verified { get; init; }
    public required Percentiles DispatchUs { get; init; }
    public required Percentiles CombineUs { get; init; }
    public required Percentiles PairUs { get; init; }

    /// <summary>Read plus written bytes a second of the faster copy, over all ranks or devices; the median of the copies between the repetitions.</summary>
    public required double CopyGBps { get; init; }

    /// <summary>The median, over pairs of a copy and the repetition after it, of their rates' ratio.</summary>
    public required double DispatchFractionOfCopy { get; init; }
    public required double CombineFractionOfCopy { get; init; }
    public required double AllocatedBytesPerStep { get; init; }
    public required string Device { get; init; }
    public required string Driver { get; init; }
    public string? Commit { get; } = Machine.Commit;
    public required string Routing { get; init; }
    public required int Repetitions { get; init; }

    /// <summary>Bytes of a row as it arrives, its scales not counted.</summary>
    public required int RowBytes { get; init; }

    /// <summary>Bytes of a row as it is combined.</summary>
    public required int ResultRowBytes { get; init; }

    /// <summary>Threads that moved a rank's rows; null for the library's choice.</summary>
    public int? Workers { get; init; }

    /// <summary>Those of <see cref="Rows"/> that stayed on their rank.</summary>
    public required long LocalRows { get; init; }

    /// <summary>Read plus written bytes a second, as the fraction of the copy counts them.</summary>
    public required double DispatchGBps { get; init; }

    /// <inheritdoc cref="DispatchGBps"/>
    public required double CombineGBps { get; init; }

    /// <summary>The GPUs that the ranks were placed on in turn.</summary>
    public IReadOnlyList<int>? Devices { get; init; }

    /// <summary>What a call took the host to enqueue, calls one behind the other; null on the CPU, which does the call's work.</summary>
    public Percentiles? HostDispatchUs { get; init; }

    /// <inheritdoc cref="HostDispatchUs"/>
    public Percentiles? HostCombineUs { get; init; }

    /// <summary>Where a dispatch's time goes; null on the CPU.</summary>
    public DispatchParts? DispatchPartsUs { get; init; }

    /// <summary>Those of <see cref="Rows"/> that went to another device; null with one.</summary>
    public long? CrossedRows { get; init; }

    /// <summary>Bytes of all received rows, a device and second; null with one device.</summary>
    public double? DispatchLogicalGBps { get; init; }

    /// <summary>Bytes of the rows that came from another device, a device and second; null with one device.</summary>
    public double? DispatchPhysicalGBps { get; init; }

    /// <inheritdoc cref="DispatchLogicalGBps"/>
    public double? CombineLogicalGBps { get; init; }

    /// <inheritdoc cref="DispatchPhysicalGBps"/>
    public double? CombinePhysicalGBps { get; init; }

    public int Cores { get; } = Machine.Cores;
    public string Runtime { get; } = Machine.Runtime;

    /// <summary>What was wrong, where <see cref="Verified"/> is false.</summary>
    public string? Difference { get; init; }

    /// <summary>How a peer did in turn with this, if one was asked for.</summary>
    public PeerComparison? Peer { get; init; }

    public static Measurement Of(Job job, RankResult[] ranks)
    {
        Shape shape = job.Shape;
        var workload = new Workload(shape);
        int[][] rows = workload.Rows;
        long[] dispatch = TicksOfEach(ranks, rank => rank.Dispatch), combine = TicksOfEach(ranks, rank => rank.Combine);
        Percentiles dispatchUs = Percentiles.Of(dispatch), combineUs = Percentiles.Of(combine);
        double[] copies = CopyRates([.. ranks.Where(rank => rank.CopyBytes > 0)]);
        int wrong = Array.FindIndex(ranks, rank => rank.Difference is not null);
        var measurement = new Measurement
        {
            Backend = shape.Backend,
            Ranks = shape.Ranks,
            Processes = shape.Processes,
            Tokens = shape.Tokens,
            Hidden = shape.Hidden,
            TopK = shape.TopK,
            Experts = shape.Experts,
            Element = shape.Element,
            Layout = shape.LayoutName,
            Sms = shape.Sms,
            Rows = workload.RowsReceived,
            Verified = wrong < 0,
            DispatchUs = dispatchUs,
            CombineUs = combineUs,
            PairUs = Percentiles.Of(dispatch.Zip(combine, (first, second) => first + second)),
            CopyGBps = Rounded(Median(copies)),
            DispatchFractionOfCopy = Rounded(FractionOfCopy(job, copies, workload.DispatchBytes, dispatch)),
            CombineFractionOfCopy = Rounded(FractionOfCopy(job, copies, workload.CombineBytes, combine)),
            // The repetition that is checked is not counted.
            AllocatedBytesPerStep = Rounded(ranks.Max(rank => rank.AllocatedBytes) / (job.Repetitions - 1.0)),
            Device = string.Join(", ", ranks.Select(rank => rank.Device).Distinct()),
            Driver = ranks[0].Driver,
            Routing = shape.Routing,
            Repetitions = job.Repetitions,
            RowBytes = shape.RowBytes,
            ResultRowBytes = shape.ResultRowBytes,
            Workers = shape.Workers,
            LocalRows = rows.Select((bySource, rank) => (long)bySource[rank]).Sum(),
            DispatchGBps = Rounded(GBps(workload.DispatchBytes, dispatchUs.P50)),
            CombineGBps = Rounded(GBps(workload.CombineBytes, combineUs.P50)),
            Devices = shape.Devices,
            Difference = wrong < 0 ? null : $"rank {wrong}: {ranks[wrong].Difference}",
        };
        return shape.Devices is null ? measurement : measurement.WithDevices(shape, rows, ranks);
    }

    /// <summary>Adds what is told of devices alone.</summary>
    private Measurement WithDevices(Shape shape, int[][] rows, RankResult[] ranks)
    {
        Measurement with = this with
        {
            HostDispatchUs = Percentiles.Of(ranks.SelectMany(rank => rank.HostDispatch)),
            HostCombineUs = Percentiles.Of(ranks.SelectMany(rank => rank.HostCombine)),
            DispatchPartsUs = DispatchParts.Of(ranks),
        };
        int devices = shape.UsedDevices.Count;
        if (devices == 1) return with;
        long crossed = rows.SelectMany((bySource, source) => bySource.Where((_, rank) => shape.DeviceOf(rank) != shape.DeviceOf(source))).Sum(each => (long)each);
        return with with
        {
            CrossedRows = crossed,
            DispatchLogicalGBps = RateOf(Rows, RowBytes, DispatchUs),
            DispatchPhysicalGBps = RateOf(crossed, RowBytes, DispatchUs),
            CombineLogicalGBps = RateOf(Rows, ResultRowBytes, CombineUs),
            CombinePhysicalGBps = RateOf(crossed, ResultRowBytes, CombineUs),
        };

        double RateOf(long rows, int rowBytes, Percentiles time) => Rounded(GBps((double)rows * rowBytes / devices, time.P50));
    }

    private static long[] TicksOfEach(RankResult[] ranks, Func<RankResult, Interval[]> intervals) =>
        [.. Enumerable.Range(0, intervals(ranks[0]).Length).Select(i => Interval.TicksOfAll(ranks.Select(rank => intervals(rank)[i])))];

    /// <summary>The rate of each copy, the faster way, all ranks together.</summary>
    private static double[] CopyRates(RankResult[] ranks)
    {
        double bytes = 2.0 * ranks.Sum(rank => rank.CopyBytes);
        IEnumerable<long[]> ways = ranks[0].Copies.Select((_, way) => TicksOfEach(ranks, rank => rank.Copies[way]));
        return [.. ways.Select(ticks => ticks.Select(each => GBps(bytes, Percentiles.Microseconds(each)))).Aggregate((first, second) => first.Zip(second, Math.Max))];
    }

    /// <summary>The median over pairs: a copy, and the repetition that came after it.</summary>
    private static double FractionOfCopy(Job job, double[] copies, double bytes, long[] ticks) =>
        Median(copies.Select((copy, i) => GBps(bytes, Percentiles.Microseconds(ticks[i * job.RepetitionsACopy])) / copy));

    private static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    private static double GBps(double bytes, double microseconds) => bytes / microseconds / 1e3;

    private static double Rounded(double value) => Math.Round(value, 3);
}

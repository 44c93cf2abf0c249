using System.Diagnostics;
using System.Runtime.InteropServices;
using Switchyard.Cli.Bench.Gpu;
using Switchyard.Cli.Bench.Report;

namespace Switchyard.Cli.Bench.Work;

/// <summary>One rank of a run: warms up, measures the copy and the phases, and has what it got checked.</summary>
internal sealed class RankRun : IDisposable
{
    private delegate void Draw(int token, Span<byte> row);

    private readonly Job _job;
    private readonly ExpertBuffer _buffer;
    private readonly StartLine _line;
    private readonly Stage _stage;
    private readonly Oracle _oracle;
    private readonly IRows _x;
    private readonly IRows? _scales;
    private readonly IRows _output;
    private readonly IRows _choices;
    private readonly IRows _weights;
    private readonly DispatchOptions _options;
    private readonly Action _dispatchCall;
    private readonly Action _combineCall;
    private readonly Interval[] _dispatch;
    private readonly Interval[] _combine;
    private Dispatched _received;
    private string? _difference;

    private RankRun(Job job, Workload workload, ExpertBuffer buffer, StartLine line, Stage stage)
    {
        Shape shape = job.Shape;
        int rank = buffer.Group.Rank;
        _job = job;
        _buffer = buffer;
        _line = line;
        _stage = stage;
        _oracle = new Oracle(workload, rank);
        _x = Place(shape.Hidden, workload.Element.Type, (token, row) => workload.DrawRow(rank, token, row));
        _scales = workload.GivenScales == 0 ? null : Place(workload.GivenScales, ElementType.Single, (token, row) => Workload.DrawScales(rank, token, row));
        _output = Place(shape.Hidden, workload.Element.Result.Type, (_, row) => row.Fill(Poison.Value));
        _choices = Place(shape.TopK, ElementType.Int32, (token, row) => MemoryMarshal.AsBytes(workload.ChoicesOf(rank, token)).CopyTo(row));
        _weights = Place(shape.TopK, ElementType.Single, (token, row) => Workload.DrawWeights(rank, token, MemoryMarshal.Cast<byte, float>(row)));
        _options = new DispatchOptions { Layout = shape.Layout, Quantize = workload.Element.Quantize, FixedShape = stage.Enqueues, Device = stage.Device };
        // Made once, so that no step allocates.
        (_dispatchCall, _combineCall) = (Dispatch, Combine);
        _dispatch = new Interval[job.Repetitions];
        _combine = new Interval[job.Repetitions];
    }

    /// <summary>Where rows are combined as they arrived, the experts work in place.</summary>
    private TensorView Results => _received.Scales.IsAbsent ? _received.Rows : _received.ResultRows;

    /// <summary>Runs the job as one rank of a group, on the calling thread.</summary>
    /// <param name="job">The job.</param>
    /// <param name="group">The group.</param>
    /// <param name="startLine">The file of the ranks' <see cref="StartLine"/>.</param>
    public static RankResult Run(Job job, ExpertGroup group, string startLine)
    {
        var workload = new Workload(job.Shape);
        using var line = new StartLine(startLine, group.Size, group.Rank);
        using Stage stage = job.Shape.Devices is null ? new HostStage(job.Shape, line) : DeviceStage.Create(workload, group, line);
        using ExpertBuffer buffer = ExpertBuffer.CreateAsync(group, OptionsFor(workload, stage)).GetAwaiter().GetResult();
        using var run = new RankRun(job, workload, buffer, line, stage);
        return run.Measure();
    }

    public void Dispose()
    {
        _x.Dispose();
        _scales?.Dispose();
        _output.Dispose();
        _choices.Dispose();
        _weights.Dispose();
    }

    private static ExpertBufferOptions OptionsFor(Workload workload, Stage stage)
    {
        Shape shape = workload.Shape;
        var options = new ExpertBufferOptions
        {
            Backend = stage.Backend,
            Experts = shape.Experts,
            TopK = shape.TopK,
            Hidden = shape.Hidden,
            MaxTokensPerRank = Math.Max(1, shape.Tokens),
            Element = workload.Element.Result.Type,
            WorkerThreads = shape.Workers,
            Multiprocessors = shape.Sms,
            ReceiveCapacity = Math.Max(1, workload.MostRowsReceived),
        };
        return stage.Enqueues ? options with { MemoryBudget = TightBudget(options, workload) } : options;
    }

    /// <summary>Many ranks may share a device's memory: no more than a result, what the experts make of it where that lies apart, and some air.</summary>
    private static long TightBudget(ExpertBufferOptions options, Workload workload)
    {
        const int Air = 1 << 20;
        long results = workload.Scales == 0 ? 1 : 2;
        return Air + (results * options.EstimateMemory(workload.Shape.Ranks).ResultBytes * 5 / 4);
    }

    private IRows Place(int length, ElementType element, Draw draw)
    {
        var rows = new NativeRows(_job.Shape.Tokens, length, element);
        for (int token = 0; token < _job.Shape.Tokens; token++)
            draw(token, RowElement.RowOf(rows.View, token));
        return _stage.Place(rows);
    }

    private RankResult Measure()
    {
        for (int i = 0; i < _job.Warmup; i++)
            Step(out _, out _);
        long allocated = 0;
        int last = _job.Repetitions - 1;
        for (int i = 0; i < last; i++)
        {
            if (i % _job.RepetitionsACopy == 0) MeasureCopy();
            long before = GC.GetAllocatedBytesForCurrentThread();
            Step(out _dispatch[i], out _combine[i]);
            allocated += GC.GetAllocatedBytesForCurrentThread() - before;
        }
        HostCosts? host = _stage.Enqueues ? MeasureHost() : null;
        long[][] parts = _stage.Enqueues ? MeasureParts() : [];
        // Only here, because poison leaves the caches full of lines that the next phase would have to write back.
        Step(out _, out _, poisons: true);
        // The checks allocate, so this one's allocations are not counted.
        Step(out _dispatch[last], out _combine[last], isChecked: true);
        return new RankResult
        {
            Dispatch = _dispatch,
            Combine = _combine,
            Copies = _stage.Copies,
            CopyBytes = _stage.CopyBytes,
            AllocatedBytes = allocated,
            HostDispatch = host?.Dispatch ?? [],
            HostCombine = host?.Combine ?? [],
            Parts = parts,
            Device = _stage.Name,
            Driver = _stage.Driver,
            Difference = _difference,
        };
    }

    /// <summary>A copy, and a repetition that is not timed: the copy leaves the caches full of its own.</summary>
    private void MeasureCopy()
    {
        _stage.SampleCopy();
        Step(out _, out _);
    }

    /// <summary>
    /// What calls take the host, one behind the other while nothing waits for the device: rank by rank, the others asleep, since threads that enqueue
    /// at the same time hold each other up in the driver.
    /// </summary>
    private HostCosts MeasureHost()
    {
        var costs = new HostCosts();
        for (int turn = 0; turn < HostCosts.WarmUps + HostCosts.Turns; turn++)
        {
            if (turn < HostCosts.WarmUps) Thread.Sleep(HostCosts.Pause);
            for (int rank = 0; rank < _buffer.Group.Size; rank++)
            {
                _line.WaitAsleep();
                if (rank == _buffer.Group.Rank) MeasureHost(costs);
            }
        }
        _stage.Finish();
        _line.Wait();
        return costs;
    }

    /// <summary>In turns of their own: to note the time takes some.</summary>
    private long[][] MeasureParts()
    {
        long[][] parts = new long[DispatchParts.Turns][];
        for (int turn = 0; turn < parts.Length; turn++)
        {
            parts[turn] = _stage.TimeParts(_buffer, _dispatchCall);
            _ = Results;
            _ = _stage.Time(_combineCall);
            _line.Wait();
            Release();
        }
        return parts;
    }

    private void MeasureHost(HostCosts costs)
    {
        for (int pair = 0; pair < HostCosts.Waking + HostCosts.Pairs; pair++)
        {
            long start = Stopwatch.GetTimestamp();
            Dispatch();
            long dispatched = Stopwatch.GetTimestamp();
            _ = Results;
            long between = Stopwatch.GetTimestamp();
            Combine();
            costs.Add(dispatched - start, Stopwatch.GetTimestamp() - between);
            Release();
        }
    }

    /// <summary>Dispatches and combines once, each from a common start.</summary>
    /// <param name="dispatch">When the dispatch began and ended.</param>
    /// <param name="combine">When the combine began and ended.</param>
    /// <param name="poisons">Whether all that was written is poisoned afterwards, so that the next step must write all of it.</param>
    /// <param name="isChecked">Whether the oracle looks at what was written.</param>
    private void Step(out Interval dispatch, out Interval combine, bool poisons = false, bool isChecked = false)
    {
        dispatch = _stage.Time(_dispatchCall);
        TensorView results = Results;
        if (isChecked)
            _difference = _stage.CheckReceived(_oracle, _received, results);
        combine = _stage.Time(_combineCall);
        // Peers read the rows until they are through too.
        _line.Wait();
        if (isChecked)
            _difference ??= _stage.CheckCombined(_oracle, _output.View);
        if (poisons)
            PoisonAll(results);
        Release();
    }

    private void Dispatch() => _received = _scales is null
        ? _buffer.Dispatch(_x.View, _choices.View, _weights.View, _options)
        : _buffer.Dispatch(new ScaledRows(_x.View, _scales.View), _choices.View, _weights.View, _options);

    private void Combine() => _buffer.Combine(Results, _received.Handle, _output.View, new() { Device = _stage.Device });

    private void Release() => _received.Dispose();

    private void PoisonAll(TensorView results)
    {
        _stage.Poison(_received.Rows);
        _stage.Poison(_received.Scales);
        _stage.Poison(_received.SourcesView);
        _stage.Poison(_received.TopkIndicesView);
        _stage.Poison(_received.TopkWeightsView);
        if (_options.FixedShape) _stage.Poison(_received.Counts);
        _stage.Poison(results);
        _stage.Poison(_output.View);
    }
}

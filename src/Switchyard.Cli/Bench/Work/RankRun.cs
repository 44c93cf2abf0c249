using System.Diagnostics;
using Switchyard.Cpu;

namespace Switchyard.Cli.Bench.Work;

/// <summary>One rank of a run: warms up, measures the copy and the phases, and has what it got checked.</summary>
internal sealed class RankRun : IDisposable
{
    private readonly Job _job;
    private readonly ExpertBuffer _buffer;
    private readonly StartLine _line;
    private readonly CopyMeter _copy;
    private readonly Oracle _oracle;
    private readonly NativeRows _x;
    private readonly NativeRows? _scales;
    private readonly NativeRows _output;
    private readonly int[] _choices;
    private readonly float[] _weights;
    private readonly DispatchOptions _options;
    private readonly Interval[] _dispatch;
    private readonly Interval[] _combine;
    private string? _difference;

    private RankRun(Job job, Workload workload, ExpertBuffer buffer, StartLine line)
    {
        Shape shape = job.Shape;
        int rank = buffer.Group.Rank;
        _job = job;
        _buffer = buffer;
        _line = line;
        _copy = new CopyMeter(buffer.Options.Backend, shape.Ranks, line);
        _oracle = new Oracle(workload, rank);
        _x = new NativeRows(shape.Tokens, shape.Hidden, workload.Element.Type);
        _scales = workload.Scales == 0 ? null : new NativeRows(shape.Tokens, workload.Scales, ElementType.Single);
        _output = new NativeRows(shape.Tokens, shape.Hidden, workload.Element.Result.Type);
        for (int token = 0; token < shape.Tokens; token++)
        {
            workload.DrawRow(rank, token, RowElement.RowOf(_x.View, token));
            if (_scales is not null) Workload.DrawScales(rank, token, RowElement.RowOf(_scales.View, token));
        }
        _choices = workload.ChoicesOf(rank);
        _weights = workload.WeightsOf(rank);
        _options = new DispatchOptions { Layout = shape.Layout };
        _dispatch = new Interval[job.Repetitions];
        _combine = new Interval[job.Repetitions];
    }

    /// <summary>Runs the job as one rank of a group, on the calling thread.</summary>
    public static RankResult Run(Job job, ExpertGroup group, string startLine)
    {
        var workload = new Workload(job.Shape);
        using var line = new StartLine(startLine, group.Size, group.Rank);
        using ExpertBuffer buffer = ExpertBuffer.CreateAsync(group, OptionsFor(workload)).GetAwaiter().GetResult();
        using var run = new RankRun(job, workload, buffer, line);
        return run.Measure();
    }

    public void Dispose()
    {
        _copy.Dispose();
        _x.Dispose();
        _scales?.Dispose();
        _output.Dispose();
    }

    private static ExpertBufferOptions OptionsFor(Workload workload) => new()
    {
        Backend = CpuBackend.Instance,
        Experts = workload.Shape.Experts,
        TopK = workload.Shape.TopK,
        Hidden = workload.Shape.Hidden,
        MaxTokensPerRank = workload.Shape.Tokens,
        Element = workload.Element.Result.Type,
        WorkerThreads = workload.Shape.Workers,
        ReceiveCapacity = Math.Max(1, workload.MostRowsReceived),
    };

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
        // Only here, because poison leaves the caches full of lines that the next phase would have to write back.
        Step(out _, out _, poisons: true);
        // The checks allocate, so this one's allocations are not counted.
        Step(out _dispatch[last], out _combine[last], isChecked: true);
        return new RankResult
        {
            Dispatch = _dispatch,
            Combine = _combine,
            Memcpy = [.. _copy.Memcpy],
            Stream = [.. _copy.Stream],
            CopyBytes = _copy.Bytes,
            AllocatedBytes = allocated,
            Difference = _difference,
        };
    }

    /// <summary>A copy, and a repetition that is not timed: the copy leaves the caches full of its own.</summary>
    private void MeasureCopy()
    {
        _copy.Sample();
        Step(out _, out _);
    }

    /// <summary>Dispatches and combines once, each from a common start.</summary>
    /// <param name="dispatch">When the dispatch began and ended.</param>
    /// <param name="combine">When the combine began and ended.</param>
    /// <param name="poisons">Whether all that was written is poisoned afterwards, so that the next step must write all of it.</param>
    /// <param name="isChecked">Whether the oracle looks at what was written.</param>
    private void Step(out Interval dispatch, out Interval combine, bool poisons = false, bool isChecked = false)
    {
        _line.Wait();
        long start = Stopwatch.GetTimestamp();
        Dispatched received = _scales is null
            ? _buffer.Dispatch(_x.View, _choices, _weights, _options)
            : _buffer.Dispatch(new ScaledRows(_x.View, _scales.View), _choices, _weights, _options);
        dispatch = new Interval(start, Stopwatch.GetTimestamp());
        // Where rows are combined as they were dispatched, the experts work in place.
        TensorView results = _scales is null ? received.Rows : received.ResultRows;
        DispatchHandle handle = received.Handle;
        if (isChecked)
        {
            _difference = _oracle.CheckReceived(received);
            if (_difference is null)
                _oracle.ApplyExperts(received, results);
        }
        _line.Wait();
        start = Stopwatch.GetTimestamp();
        _buffer.Combine(results, handle, _output.View);
        combine = new Interval(start, Stopwatch.GetTimestamp());
        // Peers read the rows until they are through too.
        _line.Wait();
        if (isChecked)
            _difference ??= _oracle.CheckCombined(_output.View);
        if (poisons)
        {
            Poison.Fill(received.Rows);
            Poison.Fill(received.Scales);
            Poison.Fill(results);
            Poison.Fill(_output.View);
        }
        received.Dispose();
        handle.Dispose();
    }
}

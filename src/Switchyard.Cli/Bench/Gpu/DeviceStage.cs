using System.Diagnostics;
using System.Runtime.InteropServices;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cuda;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>
/// Calls that a GPU carries out, on a stream of this rank: enqueued, with a fixed shape, and timed by the device's clock, from when the ranks
/// have met to a kernel behind the call. No events: between the meeting and the calls they would hold up one rank's launch after the other's.
/// </summary>
internal sealed class DeviceStage : Stage
{
    private const long CopyBlockBytes = 2L << 30;
    private const long LeastCopyBytes = 128 << 20; // read and written more than twice what the last cache of such a device holds

    private readonly StartLine _line;
    private readonly CudaRuntime _runtime;
    private readonly CudaStream _stream;
    private readonly CudaEvent _copyStart;
    private readonly CudaEvent _copyEnd;
    private readonly Meeting _meeting;
    private readonly PinnedMemory _stamps;

    /// <summary>Whether all ranks' times are of one device's clock. Elsewhere each rank's begin at 0 when it has met the others.</summary>
    private readonly bool _isComparable;
    private readonly List<Interval> _copies = [];
    private readonly CopyBlock[] _copyBlocks;

    private DeviceStage(CudaBackend backend, CudaRuntime runtime, Meeting meeting, PinnedMemory stamps, bool isComparable, long copyBytes, StartLine line)
    {
        Backend = backend;
        _runtime = runtime;
        _meeting = meeting;
        _stamps = stamps;
        _isComparable = isComparable;
        _line = line;
        _stream = CudaStream.Create(runtime.Context);
        _copyStart = CudaEvent.Create(runtime.Context, timing: true);
        _copyEnd = CudaEvent.Create(runtime.Context, timing: true);
        CopyBytes = copyBytes;
        _copyBlocks = copyBytes > 0 ? [new CopyBlock(_stream, CopyBlockBytes, seed: 1), new CopyBlock(_stream, CopyBlockBytes, seed: 2)] : [];
    }

    public override ExpertBackend Backend { get; }

    public override string Name => _runtime.Device.Name;

    public override string Driver => $"CUDA {CudaDriver.Readable(CudaDriver.Version)}";

    public override bool Enqueues => true;

    public override DeviceOptions Device => new() { Stream = _stream.Handle };

    public override Interval[][] Copies => _copyBlocks.Length == 0 ? [] : [[.. _copies]];

    /// <summary>As much as a device moves in a combine, so that both take about as long.</summary>
    public override long CopyBytes { get; }

    /// <summary>Collective.</summary>
    public static DeviceStage Create(Workload workload, ExpertGroup group, StartLine line)
    {
        Shape shape = workload.Shape;
        int device = shape.DeviceOf(group.Rank);
        var backend = CudaBackend.For(device);
        var runtime = CudaRuntime.Of(device);
        bool takesTurns = shape.Processes && shape.RanksPerDevice > 1;
        PinnedMemory stamps = PinnedMemory.Allocate(runtime.Context, 2 * sizeof(long));
        Meeting meeting = Meeting.CreateAsync(group, runtime, backend.ScaleUp, takesTurns, stamps.DeviceAddress).GetAwaiter().GetResult();
        bool copies = group.Rank < shape.Devices!.Count;
        long copyBytes = copies ? Math.Clamp(workload.CombineBytes / 2 / shape.UsedDevices.Count, LeastCopyBytes, CopyBlockBytes) : 0;
        return new DeviceStage(backend, runtime, meeting, stamps, shape.UsedDevices.Count == 1, copyBytes, line);
    }

    public override IRows Place(NativeRows rows)
    {
        using NativeRows source = rows;
        return new DeviceTensor(_runtime, source.View);
    }

    public override Interval Time(Action call)
    {
        _line.Wait();
        _meeting.Enqueue(_stream);
        call();
        _runtime.Kernels.Barrier.Stamp(_stream, _stamps.DeviceAddress + sizeof(long));
        Finish();
        _meeting.RequireAllCame();
        long origin = Origin, end = Marshal.ReadInt64(_stamps.Handle, sizeof(long));
        return new Interval(Ticks(Met - origin), Ticks(end - origin));
    }

    public override unsafe long[] TimeParts(ExpertBuffer buffer, Action dispatch)
    {
        int blocks = _runtime.Multiprocessors;
        using var memory = PinnedMemory.Allocate(_runtime.Context, blocks * sizeof(DispatchMarks));
        new Span<byte>((void*)memory.Handle, blocks * sizeof(DispatchMarks)).Clear();
        var engine = (CudaEngine)buffer.Engine;
        engine.Marks = memory.DeviceAddress;
        _ = Time(dispatch);
        engine.Marks = 0;
        var marks = new ReadOnlySpan<ulong>((void*)memory.Handle, blocks * DispatchMarks.Count);
        long[] times = [Met, .. new long[DispatchMarks.Count]];
        for (int i = 0; i < marks.Length; i++) times[1 + (i % DispatchMarks.Count)] = Math.Max(times[1 + (i % DispatchMarks.Count)], (long)marks[i]);
        long origin = Origin;
        return Array.ConvertAll(times, time => Ticks(time - origin));
    }

    public override void SampleCopy()
    {
        _line.Wait();
        if (_copyBlocks is not [var source, var target]) return;
        _copyStart.Record(_stream);
        _stream.Copy(target.Address, source.Address, CopyBytes);
        _copyEnd.Record(_stream);
        Finish();
        _copies.Add(new Interval(0, Ticks((long)_copyEnd.Since(_copyStart).TotalNanoseconds)));
    }

    public override void Finish() => _stream.Synchronize();

    public override void Poison(TensorView view)
    {
        if (view.Length > 0) _runtime.FillNow(view.Address, Work.Poison.Value, BytesOf(view));
    }

    public override string? CheckReceived(Oracle oracle, in Dispatched received, TensorView results)
    {
        using NativeRows rows = Fetch(received.Rows), sources = Fetch(received.SourcesView), indices = Fetch(received.TopkIndicesView),
            weights = Fetch(received.TopkWeightsView), counts = Fetch(received.Counts);
        using NativeRows? scales = received.Scales.IsAbsent ? null : Fetch(received.Scales);
        ReadOnlySpan<int> numbers = counts.View.AsSpan<int>();
        int experts = (numbers.Length - 2) / 2;
        var got = new Received
        {
            RowCount = numbers[0],
            Rows = rows.View,
            Scales = scales is null ? default : scales.View,
            Sources = MemoryMarshal.Cast<int, RowSource>(sources.View.AsSpan<int>()),
            TopkIndices = indices.View.AsSpan<int>(),
            TopkWeights = weights.View.AsSpan<float>(),
            TokensPerExpert = numbers.Slice(1, experts),
            RowsPerSource = [],
        };
        if (oracle.CheckReceived(got) is { } difference) return difference;
        using var made = new NativeRows((int)results.Rows, (int)results.RowLength, results.Element);
        oracle.ApplyExperts(got, made.View);
        _runtime.CopyNow(results.Address, made.View.Address, BytesOf(results));
        return null;
    }

    public override string? CheckCombined(Oracle oracle, TensorView output)
    {
        using NativeRows sums = Fetch(output);
        return oracle.CheckCombined(sums.View);
    }

    public override void Dispose()
    {
        foreach (CopyBlock block in _copyBlocks) block.Dispose();
        _meeting.Dispose();
        _copyStart.Dispose();
        _copyEnd.Dispose();
        _stamps.Dispose();
        _stream.Dispose();
    }

    /// <summary>When the ranks last met, in nanoseconds of the device's clock.</summary>
    private long Met => Marshal.ReadInt64(_stamps.Handle);

    private long Origin => _isComparable ? 0 : Met;

    private static long Ticks(long nanoseconds) => (long)(nanoseconds * (Stopwatch.Frequency / 1e9));

    private NativeRows Fetch(TensorView view)
    {
        var rows = new NativeRows((int)view.Rows, (int)view.RowLength, view.Element);
        if (view.Length > 0) _runtime.CopyNow(rows.View.Address, view.Address, BytesOf(view));
        return rows;
    }

    /// <summary>Rows of the bench lie one behind the other.</summary>
    private static long BytesOf(TensorView view) => (long)view.Length * view.Element.SizeInBytes();

    /// <summary>Rows in a device's memory.</summary>
    private sealed class DeviceTensor : IRows
    {
        private readonly CudaRuntime _runtime;
        private readonly DeviceMemory _memory;
        private readonly int _rows;
        private readonly int _length;
        private readonly ElementType _element;

        public DeviceTensor(CudaRuntime runtime, TensorView rows)
        {
            _runtime = runtime;
            (_rows, _length, _element) = ((int)rows.Rows, (int)rows.RowLength, rows.Element);
            _memory = new DeviceMemory(runtime, Math.Max(1, BytesOf(rows)));
            if (rows.Length > 0) runtime.CopyNow(_memory.Address, rows.Address, BytesOf(rows));
        }

        public TensorView View => TensorView.FromPointer(_memory.Address, _rows, _length, _length, _element, _runtime.Device.Ordinal);

        /// <summary>Other ranks' kernels may still run.</summary>
        public void Dispose() => _runtime.Retire(_memory.Dispose);
    }
}

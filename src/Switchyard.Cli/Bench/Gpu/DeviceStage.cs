using Switchyard.Cli.Bench.Work;
using Switchyard.Cuda;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>Calls that a GPU carries out, on a stream of this rank: enqueued, with a fixed shape, and timed on the device.</summary>
internal sealed class DeviceStage : Stage
{
    private const long CopyBlockBytes = 2L << 30;

    private readonly int _device;
    private readonly int _rank;
    private readonly StartLine _line;
    private readonly DeviceClock _clock;
    private readonly CudaRuntime _runtime;
    private readonly CudaStream _stream;
    private readonly CudaEvent _start;
    private readonly CudaEvent _end;
    private readonly Meeting _meeting;
    private readonly List<Interval> _copies = [];
    private readonly CopyBlock[] _copyBlocks;

    private DeviceStage(CudaBackend backend, CudaRuntime runtime, Meeting meeting, int rank, bool copies, StartLine line, DeviceClock clock)
    {
        Backend = backend;
        _runtime = runtime;
        _device = runtime.Device.Ordinal;
        _meeting = meeting;
        _rank = rank;
        _line = line;
        _clock = clock;
        _stream = CudaStream.Create(runtime.Context);
        _start = CudaEvent.Create(runtime.Context, timing: true);
        _end = CudaEvent.Create(runtime.Context, timing: true);
        _copyBlocks = copies ? [new CopyBlock(_stream, CopyBlockBytes, seed: 1), new CopyBlock(_stream, CopyBlockBytes, seed: 2)] : [];
    }

    public override ExpertBackend Backend { get; }

    public override string Name => _runtime.Device.Name;

    public override string Driver => $"CUDA {CudaDriver.Readable(CudaDriver.Version)}";

    public override bool Enqueues => true;

    public override DeviceOptions Device => new() { Stream = _stream.Handle };

    public override Interval[][] Copies => _copyBlocks.Length == 0 ? [] : [[.. _copies]];

    public override long CopyBytes => _copyBlocks.Length == 0 ? 0 : CopyBlockBytes;

    /// <summary>Collective.</summary>
    public static DeviceStage Create(Shape shape, ExpertGroup group, StartLine line, DeviceClock clock)
    {
        int device = shape.DeviceOf(group.Rank);
        var backend = CudaBackend.For(device);
        var runtime = CudaRuntime.Of(device);
        bool takesTurns = shape.Processes && shape.RanksPerDevice > 1;
        Meeting meeting = Meeting.CreateAsync(group, runtime, backend.ScaleUp, takesTurns).GetAwaiter().GetResult();
        bool copies = group.Rank < shape.Devices!.Count;
        return new DeviceStage(backend, runtime, meeting, group.Rank, copies, line, clock);
    }

    public override IRows Place(NativeRows rows)
    {
        using NativeRows source = rows;
        return new DeviceTensor(_runtime, source.View);
    }

    public override Interval Time(Action call)
    {
        _line.Wait();
        _clock.Begin(_rank, _stream);
        _meeting.Enqueue(_stream);
        _start.Record(_stream);
        call();
        _end.Record(_stream);
        Finish();
        _meeting.RequireAllCame();
        return _clock.Between(_start, _end);
    }

    public override void SampleCopy()
    {
        _line.Wait();
        if (_copyBlocks is not [var source, var target]) return;
        _clock.Begin(_rank, _stream);
        _start.Record(_stream);
        _stream.Copy(target.Address, source.Address, CopyBlockBytes);
        _end.Record(_stream);
        Finish();
        _copies.Add(_clock.Between(_start, _end));
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
            Sources = System.Runtime.InteropServices.MemoryMarshal.Cast<int, RowSource>(sources.View.AsSpan<int>()),
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
        _start.Dispose();
        _end.Dispose();
        _stream.Dispose();
    }

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

using System.Diagnostics;
using Switchyard.Arena;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cuda.Engine;

internal sealed unsafe partial class CudaEngine
{
    private const string WaitsForGraph =
        "DeviceOptions.WaitEvent was recorded in a stream that is being captured into a graph, and the call's own is not: give a stream that is.";

    /// <summary>How often a wait on the host looks whether the device has failed.</summary>
    private static readonly long _lookTicks = Stopwatch.Frequency / 1000;

    public void RequireReachable(ReadOnlyTensorView tensor, string name, long rowBytes)
    {
        if (tensor.IsAbsent || tensor.Length == 0) return;
        nint address = tensor.Address;
        ref nint seen = ref _seen[(int)((ulong)address * SpreadingFactor >> (64 - SeenBits))];
        if (seen != address)
        {
            RequireOfDevice(address, name);
            seen = address;
        }
        int size = tensor.Element.SizeInBytes();
        long stride = tensor.Rows > 1 ? tensor.RowStride * size : rowBytes;
        long alignment = rowBytes > 0 ? DeviceRows.Alignment : size;
        if (((address | stride | rowBytes) & (alignment - 1)) != 0)
        {
            throw new ArgumentException(
                $"{name} lies at 0x{address:x} with rows of {rowBytes} bytes, {stride} apart: all three must be multiples of {alignment}.", name);
        }
    }

    private void RequireOfDevice(nint address, string name)
    {
        PointerInfo memory = PointerInfo.Of(_runtime.Context, address);
        if (memory.Kind == PointerKind.Device && memory.Device == _runtime.Device.Ordinal) return;
        string where = memory.Kind == PointerKind.Device ? $"on device {memory.Device}" : "not in device memory";
        throw new ArgumentException($"{name} is {where}; this rank's backend takes memory of device {_runtime.Device.Ordinal}.", name);
    }

    public void Enter(in DeviceOptions device)
    {
        using CudaContext.Scope scope = _runtime.Context.Enter();
        if (device.Stream is null && device.Overlap)
            throw new ArgumentException("DeviceOptions.Overlap is set without DeviceOptions.Stream: name the stream that the call is to run beside.", nameof(device));
        CudaStream? callers = device.Stream is { } handle ? Borrow(handle) : null;
        CudaStream current = callers is null || device.Overlap ? _stream : callers;
        bool isCapturing = callers is { IsCapturing: true };
        if (!isCapturing) RequireOutsideOfGraphs(current);
        _blocks = device.Multiprocessors == 0 ? _defaultBlocks : BlocksOf(device.Multiprocessors);
        (_device, _callers, _current, _isCapturing) = (device, callers, current, isCapturing);
        _awaitsReaders = false;
        _hasOverlapped |= device.Overlap;
        if (device.Overlap && device.WaitEvent == 0)
        {
            _callersWork.Record(_callers!);
            _current.WaitFor(_callersWork);
        }
        if (device.WaitEvent != 0) TakeUp(device.WaitEvent);
        // Calls of a buffer follow each other, whatever streams they are on; the stream of each thread is one by its handle alone. A graph runs
        // when its owner says.
        if ((_lastStream != _current.Handle || _lastStream == CudaStream.OfEachThread) && !_isCapturing) _current.WaitFor(_lastDone);
        if (_isCapturing) _awaitsReaders = true;
    }

    /// <summary>
    /// The buffer's own stream is in a graph that is being captured on others: a call with <see cref="DeviceOptions.Overlap"/> is, or was to wait for an
    /// event of it, and was refused. So it stays until the capture ends.
    /// </summary>
    private void RequireOutsideOfGraphs(CudaStream stream)
    {
        if (stream != _stream || !stream.IsCapturing) return;
        throw new InvalidOperationException(
            "The buffer's own stream is in a graph that is being captured, since a call with DeviceOptions.Overlap: end the capture first, or call on a stream that is captured into it.");
    }

    /// <summary>Waits for an event, which may be of a graph that is being captured, and so takes the stream into it.</summary>
    private void TakeUp(nint waitEvent)
    {
        _current.WaitFor(waitEvent);
        bool isCaptured = _current.IsCapturing;
        if (isCaptured != _isCapturing && _current != _callers)
        {
            throw new InvalidOperationException(isCaptured ? WaitsForGraph
                : "DeviceOptions.Stream is being captured into a graph, but with Overlap the call waits for DeviceOptions.WaitEvent alone, which is outside of it: record the event in the graph, or leave it out.");
        }
        _isCapturing = isCaptured;
    }

    /// <summary>A caller's stream; mostly the same one again.</summary>
    private CudaStream Borrow(nint handle)
    {
        if (_borrowed is null || _borrowed.Handle != handle) _borrowed = CudaStream.Borrow(_runtime.Context, handle);
        return _borrowed;
    }

    public long Count(RoutingPlan plan, ReadOnlyTensorView topkIndices)
    {
        if (_isCapturing && !plan.IsFixedShape)
        {
            throw new InvalidOperationException(
                "The stream is being captured into a graph, but this dispatch waits on the host for its counts: set DispatchOptions.FixedShape, whose counts stay on the device.");
        }
        var memory = plan.OnDevice as DevicePlan;
        if (memory is null || memory == _plans.OfRefused) plan.OnDevice = memory = _plans.Take();
        if (memory == _plans.OfRefused) return _plans.PlanBytes;
        return plan.IsPreReduced ? _plans.LacksForGroups(memory, plan.MostRows(_channel.Rank) * _layout.TopK) : 0;
    }

    public void Dispatch(in DispatchCall call)
    {
        using CudaContext.Scope scope = _runtime.Context.Enter();
        RoutingPlan plan = call.Plan;
        Announcement announcement = call.Announcement;
        RequireRoomToCapture(announcement);
        RowFormat format = announcement.Signature.Format;
        _site = new CallSite(announcement.Signature.Operation, CallPhase.AwaitAnnouncement, announcement.Epoch);
        bool tells = !call.IsCached && !plan.IsFixedShape;
        _waitsOnHost = tells || _device.Stream is null;
        var memory = (DevicePlan)plan.OnDevice!;
        ref DispatchArgs args = ref _dispatchArgs;
        args.Mine = announcement with { Epoch = NextNumber() };
        (args.Rows, args.RowStride) = (call.Rows.Address, call.Rows.StrideBytes);
        (args.Scales, args.ScaleStride) = (call.Scales.Address, call.Scales.StrideBytes);
        args.Indices = call.IsCached ? 0 : call.TopkIndices == 0 ? _places : call.TopkIndices;
        args.Weights = (nint)call.TopkWeights;
        args.Plan = memory.Totals;
        args.Sent = memory.Sent;
        args.Summed = SummedOf(plan);
        args.Groups = memory.Groups?.Address ?? 0;
        args.Tell = tells ? ++_lastTold : 0;
        args.Acknowledged = Acknowledged;
        args.Marks = Marks;
        args.Tokens = (uint)plan.Tokens;
        args.IndicesAreWide = call.IndexElement == ElementType.Int64 ? 1u : 0u;
        args.RowBytes = (uint)format.RowBytes;
        args.ScaleBytes = (uint)format.ScaleBytes;
        args.ScaleSize = format.ScaleBytes == 0 ? 0 : (uint)format.ScaleElement.SizeInBytes();
        args.AwaitsReaders = _awaitsReaders ? 1u : 0u;
        args.GivenElement = call.Quantize == Float8Scaling.None ? 0u : (uint)_layout.Element;
        args.ZeroPadding = plan.Options.ZeroPadding ? 1u : 0u;
        using (CudaRuntime.BeginLaunch())
        {
            _kernels.Dispatch.Enqueue(_current, ref args, Math.Max(_blocks, DispatchKernel.LeastBlocks(plan.Tokens)));
            Recorded();
        }
        if (tells)
        {
            AwaitTold(_lastTold);
            TakeTotals(plan);
        }
        else if (!call.IsCached)
        {
            // As many as can come: what does come, the device knows.
            plan.TotalRows[_channel.Rank] = plan.TotalTokens[_channel.Rank] = plan.MostRows(_channel.Rank);
        }
        AwaitDoneIfAsked(announcement);
    }

    public void CopyResults(in OfferCall call)
    {
        BeforeWriting();
        long rows = call.Plan.ResultRows(_channel.Rank);
        var source = new DeviceRows(call.Results.Address, rows, call.Results.StrideBytes, (int)_layout.RowBytes);
        // Of a result of fixed shape the device knows how many rows came.
        nint rowsThere = call.Plan.IsFixedShape ? PlanTotals.RowsAt(((DevicePlan)call.Plan.OnDevice!).Totals, _channel.Rank) : 0;
        _kernels.CopyRows.Enqueue(_current, source, new DeviceRows((nint)call.Destination, rows, (int)_layout.RowBytes), _blocks, overlap: true, rowsThere);
    }

    public void SumGroups(in OfferCall call)
    {
        BeforeWriting();
        RoutingPlan plan = call.Plan;
        var args = new SumArgs
        {
            Exchange = _exchange,
            Results = call.Results.Address,
            ResultStride = call.Results.StrideBytes,
            Sums = (nint)call.Destination,
            Groups = ((DevicePlan)plan.OnDevice!).Groups!.Address,
            Plan = ((DevicePlan)plan.OnDevice!).Totals,
            RowBytes = (uint)_layout.RowBytes,
        };
        _combine.Enqueue(_current, args, _blocks);
    }

    public void CopyWeights(nint source, nint destination, long bytes)
    {
        BeforeWriting();
        _current.Copy(destination, source, bytes);
    }

    public void Combine(in CombineCall call)
    {
        using CudaContext.Scope scope = _runtime.Context.Enter();
        RoutingPlan plan = call.Plan;
        RequireRoomToCapture(call.Announcement);
        var memory = (DevicePlan)plan.OnDevice!;
        _site = new CallSite(Operation.Combine, CallPhase.AwaitAnnouncement, call.Announcement.Epoch);
        _waitsOnHost = _device.Stream is null;
        ref CombineArgs args = ref _combineArgs;
        args.Mine = call.Announcement with { Epoch = NextNumber() };
        (args.Output, args.OutputStride) = (call.Output.Address, call.Output.StrideBytes);
        args.ChoiceWeights = (nint)call.ChoiceWeights;
        args.ReducedWeights = (nint)call.ReducedWeights;
        args.Plan = memory.Totals;
        args.Sent = memory.Sent;
        args.Summed = SummedOf(plan);
        args.Acknowledged = Acknowledged;
        args.Tokens = (uint)plan.Tokens;
        (args.Biases[0], args.BiasStrides[0]) = (call.Bias.Address, call.Bias.StrideBytes);
        (args.Biases[1], args.BiasStrides[1]) = (call.SecondBias.Address, call.SecondBias.StrideBytes);
        using (CudaRuntime.BeginLaunch())
        {
            _combine.Enqueue(_current, args, _blocks);
            Recorded();
        }
        AwaitDoneIfAsked(call.Announcement);
    }

    /// <summary>As this host counts the calls that run once; 0 in a graph.</summary>
    private long NextNumber() => _isCapturing ? 0 : _number + 1;

    /// <summary>The refusals that the host has thrown; a graph runs whatever was refused before.</summary>
    private ulong Acknowledged => _isCapturing ? ulong.MaxValue : _acknowledged;

    private static nint SummedOf(RoutingPlan plan) => plan.IsPreReduced ? ((DevicePlan)plan.OnDevice!).ByRank : ((DevicePlan)plan.OnDevice!).Sent;

    /// <summary>A graph that is to run often cannot hold a call that is refused.</summary>
    private void RequireRoomToCapture(in Announcement announcement)
    {
        if (!_isCapturing || announcement.NeededBytes == 0) return;
        var site = new CallSite(announcement.Signature.Operation, CallPhase.None, announcement.Epoch);
        throw Refusals.NoBytes(_channel.Rank, announcement.NeededBytes, announcement.AvailableBytes, site);
    }

    /// <summary>What a graph writes, its last run's readers may still read.</summary>
    private void BeforeWriting()
    {
        if (_isCapturing) AwaitReaders(_current);
    }

    /// <summary>The call is enqueued: notes where it ends.</summary>
    private void Recorded()
    {
        if (!_isCapturing)
        {
            _lastDone.Record(_current);
            _lastStream = _current.Handle;
            _settled = _site.Epoch - 1;
            _number++;
        }
        // Last: it is the caller's, and may be no event.
        if (_device.SignalEvent != 0) _current.Signal(_device.SignalEvent);
    }

    /// <summary>Waits for the counts, which come before the rows.</summary>
    private void AwaitTold(ulong call)
    {
        using var relaxed = new RelaxedCapture();
        long looked = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref _control->Told) != call)
        {
            if (FaultSeen(_site) is { } fault) throw fault;
            Thread.SpinWait(16);
            if (Stopwatch.GetTimestamp() - looked < _lookTicks) continue;
            // An error of the device comes out here; and a kernel that has ended has told, or failed.
            if (_lastDone.IsDone && Volatile.Read(ref _control->Told) != call)
                throw FaultSeen(_site) ?? throw new ProtocolException(_channel.Rank, $"its {_site} ended on the device without its counts.");
            looked = Stopwatch.GetTimestamp();
            Thread.Yield();
        }
        ThrowIfRefused();
    }

    /// <summary>Also where this rank cannot take part: there is nothing to hand out then.</summary>
    private void AwaitDoneIfAsked(in Announcement announcement)
    {
        if (_device.Stream is not null && announcement.NeededBytes == 0) return;
        AwaitOnHost(_lastDone);
        if (FaultSeen(_site) is { } fault) throw fault;
        ThrowIfRefused();
    }

    private static void AwaitOnHost(CudaEvent cudaEvent)
    {
        using var relaxed = new RelaxedCapture();
        long start = Stopwatch.GetTimestamp();
        while (!cudaEvent.IsDone)
        {
            if (Stopwatch.GetTimestamp() - start < _lookTicks) Thread.SpinWait(16);
            else Thread.Sleep(0);
        }
    }

    private void TakeTotals(RoutingPlan plan)
    {
        for (int rank = 0; rank < _layout.Ranks; rank++)
        {
            plan.TotalRows[rank] = _told->Rows[rank];
            plan.TotalTokens[rank] = _told->Tokens[rank];
            plan.SentTo[rank] = _told->SentTo[rank];
            plan.ReceivedFrom[rank] = _told->ReceivedFrom[rank];
            plan.TokensFrom[rank] = _told->TokensFrom[rank];
        }
        var numbers = new ReadOnlySpan<int>(_told + 1, (2 * _load.Length) + 1);
        numbers[.._load.Length].CopyTo(plan.TokensPerExpert);
        numbers[_load.Length..].CopyTo(plan.ExpertOffsets);
    }
}

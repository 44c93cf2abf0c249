using Switchyard.Arena;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Rendezvous;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard.Cuda.Engine;

/// <summary>
/// Enqueues the calls of one buffer. Everything that ranks tell each other lies in device memory and is read there when a kernel runs; so are the
/// numbers of calls, and a call that is captured into a graph is a new one at each run.
/// </summary>
internal sealed unsafe partial class CudaEngine : IScaleUpEngine, IPeerWatcher
{
    private const int SeenBits = 6;

    /// <summary>Spreads addresses that are multiples of large powers of two (Knuth's multiplicative hashing).</summary>
    private const ulong SpreadingFactor = 0x9E37_79B9_7F4A_7C15;

    private readonly GroupChannel _channel;
    private readonly CudaRuntime _runtime;
    private readonly KernelSet _kernels;
    private readonly CombineKernel _combine;
    private readonly ArenaLayout _layout;
    private readonly ArenaMemory[] _arenas;
    private readonly ExpertPlacement _placement;
    private readonly DeviceMemory _private;
    private readonly DevicePlans _plans;
    private readonly PinnedMemory _pinned;
    private readonly Control* _control;
    private readonly PlanTotals* _told;
    private readonly CudaStream _stream;
    private readonly CudaEvent _lastDone;
    private readonly CudaEvent _readersDone;
    private readonly CudaEvent _callersWork;
    private readonly long[] _load;

    /// <summary>Held by those who may ask at any time, on any thread, so that what they look into is not given back meanwhile.</summary>
    private readonly Lock _asking = new();
    private readonly TimeSpan[] _waited;
    private TimeSpan _deadline;

    /// <summary>What is given back with the engine.</summary>
    private readonly List<IDisposable> _parts = [];

    /// <summary>Addresses that were found to be of this device, so that the driver is asked once for each.</summary>
    private readonly nint[] _seen = new nint[1 << SeenBits];
    private readonly int _receiveCapacity;
    private readonly int _mostBlocks;
    private readonly int _defaultBlocks;
    private readonly nint _loadAddress;
    private readonly nint _places;
    private ExchangeArgs _exchange;

    // Parameters of kernels: a call sets what is its own in them, the rest stays.
    private DispatchArgs _dispatchArgs;
    private CombineArgs _combineArgs;
    private OwnFault? _ownFault;
    private CudaStream _current;
    private CudaStream? _borrowed;
    private CudaStream? _callers;
    private DeviceOptions _device;
    private nint _lastStream;
    private CallSite _site;
    private int _blocks;
    private bool _isCapturing;
    private bool _waitsOnHost;
    private bool _isReleased;
    private bool _awaitsReaders;
    private bool _hasOverlapped;
    private ulong _lastTold;
    private ulong _acknowledged;
    private long _number;
    private long _settled;

    public CudaEngine(EngineSetup setup, CudaRuntime runtime)
    {
        _channel = setup.Channel;
        _runtime = runtime;
        _kernels = runtime.Kernels;
        _layout = setup.Layout;
        _combine = _kernels.Combine(_layout.Element);
        _arenas = setup.Arenas;
        _placement = setup.Options.PlacementFor(_channel.Size);
        _receiveCapacity = setup.Options.ReceiveCapacityFor(_channel.Size);
        _mostBlocks = runtime.Multiprocessors / setup.Neighbours;
        _defaultBlocks = setup.Options.Multiprocessors ?? DefaultBlocks(setup);
        int locals = _placement.ExpertsOf(_channel.Rank).Length;
        _load = new long[locals];
        _waited = new TimeSpan[_layout.Ranks];
        try
        {
            // State, counts by block, load, and the tables that say where experts are.
            int experts = _layout.Experts;
            long countsAt = DeviceState.Bytes, loadAt = Line(countsAt + ((long)_mostBlocks * (_layout.Ranks + experts + 1) * sizeof(int)));
            long placesAt = Line(loadAt + (locals * sizeof(long))), expertsAt = Line(placesAt + (experts * sizeof(int))), firstAt = Line(expertsAt + (experts * sizeof(int)));
            long exchangeAt = Line(firstAt + ((_layout.Ranks + 1) * sizeof(int)));
            _private = Own(new DeviceMemory(runtime, exchangeAt + sizeof(ExchangeArgs)));
            runtime.FillNow(_private.Address, 0, _private.Bytes);
            _loadAddress = _private.Address + (nint)loadAt;
            _places = Write(placesAt, [.. Enumerable.Range(0, experts).Select(expert => (_placement.RankOf(expert) << 16) | _placement.LocalIndexOf(expert))]);
            nint expertsOf = Write(expertsAt, [.. Enumerable.Range(0, _layout.Ranks).SelectMany(rank => _placement.ExpertsOf(rank).ToArray())]);
            int[] first = new int[_layout.Ranks + 1];
            for (int rank = 0; rank < _layout.Ranks; rank++) first[rank + 1] = first[rank] + _placement.ExpertsOf(rank).Length;
            nint firstExpert = Write(firstAt, first);

            _plans = Own(new DevicePlans(runtime, setup.Options.MaxTokensPerRank * _layout.TopK, locals));
            int toldAt = (int)Line(Control.Bytes);
            _pinned = Own(PinnedMemory.Allocate(runtime.Context, toldAt + PlanTotals.BytesFor(locals)));
            _control = (Control*)_pinned.Handle;
            _told = (PlanTotals*)(_pinned.Handle + toldAt);
            _stream = _current = Own(CudaStream.Create(runtime.Context));
            _lastStream = _stream.Handle;
            _lastDone = Own(CudaEvent.Create(runtime.Context));
            _readersDone = Own(CudaEvent.Create(runtime.Context));
            _callersWork = Own(CudaEvent.Create(runtime.Context));
            _exchange = Exchange(_private.Address + (nint)exchangeAt);
            fixed (ExchangeArgs* exchange = &_exchange) runtime.CopyNow(_exchange.Self, (nint)exchange, sizeof(ExchangeArgs));
            _dispatchArgs = new DispatchArgs
            {
                Exchange = _exchange,
                Places = _places,
                ExpertsOf = expertsOf,
                FirstExpert = firstExpert,
                BlockCounts = _private.Address + (nint)countsAt,
                Load = _loadAddress,
                ToldPlan = _pinned.DeviceAddress + toldAt,
                ReceiveCapacity = _receiveCapacity,
            };
            _combineArgs = new CombineArgs { Exchange = _exchange, RowBytes = (uint)_layout.RowBytes };
        }
        catch
        {
            runtime.Retire(DisposeParts);
            throw;
        }
        foreach (ArenaMemory arena in _arenas) arena.AddHolder();
        _channel.AddWatcher(this);
        CudaRuntime.Add(this);
    }

    public TimeSpan Deadline
    {
        get
        {
            lock (_asking) return _deadline;
        }
        set
        {
            lock (_asking)
            {
                _deadline = value;
                if (!_isReleased) Volatile.Write(ref _control->DeadlineNs, (ulong)value.Ticks * TimeSpan.NanosecondsPerTick);
            }
        }
    }

    /// <summary>Waits for the calls that were enqueued.</summary>
    public ReadOnlySpan<long> CumulativeTokensPerExpert
    {
        get
        {
            using var relaxed = new RelaxedCapture();
            _lastDone.Synchronize();
            fixed (long* load = _load) _runtime.CopyNow((nint)load, _loadAddress, _load.Length * sizeof(long));
            return _load;
        }
    }

    /// <summary>A call that is enqueued finds all ranks done with what was before the one ahead of it; but work beside it does not.</summary>
    public long Settled => _hasOverlapped ? 0 : _settled;

    public bool IsCapturing => _isCapturing;

    public TimeSpan WaitedFor(int peer)
    {
        lock (_asking)
        {
            if (!_isReleased) _waited[peer] = TimeSpan.FromTicks((long)(Volatile.Read(ref _control->WaitedNs[peer]) / TimeSpan.NanosecondsPerTick));
            return _waited[peer];
        }
    }

    public void OnPeerGone(PeerInfo peer, PeerState state, string cause)
    {
        lock (_asking)
        {
            if (_isReleased) return;
            if (state == PeerState.Lost)
            {
                var fault = new OwnFault(new FaultRecord { Kind = FaultKind.PeerLost, Culprit = peer.Rank, Reporter = _channel.Rank });
                _ = Interlocked.CompareExchange(ref _ownFault, fault, null);
                Volatile.Write(ref _control->Abort, 1);
            }
            else
            {
                Interlocked.Or(ref _control->Left, 1UL << peer.Rank);
            }
        }
    }

    public void ThrowIfBroken()
    {
        if (FaultSeen(default) is { } fault) throw fault;
        ThrowIfRefused();
    }

    public void AwaitDone(long epoch, CallSite site)
    {
        if (site.Operation == Operation.None)
        {
            if (epoch > 0 || _hasOverlapped) LetCallerWrite(awaitsReaders: epoch > 0);
            return;
        }
        bool hasReaders = epoch > 0 && (_isCapturing || epoch > _settled);
        if (!hasReaders) return;
        // A dispatch waits itself, before it tells others that they may write.
        if (site.Operation is Operation.Dispatch or Operation.CachedDispatch) _awaitsReaders = true;
        else AwaitReaders(_current);
    }

    /// <summary>
    /// Outside of calls the caller is to write, on the stream of its last call even if that ran beside it, or, where it has none, at once. Readers
    /// are known to a kernel once the calls before it have run. What a graph is to write, is ordered by who runs it.
    /// </summary>
    private void LetCallerWrite(bool awaitsReaders)
    {
        using CudaContext.Scope scope = _runtime.Context.Enter();
        _isCapturing = _callers is { IsCapturing: true };
        CudaStream writer = _callers ?? _stream;
        if (!_isCapturing) RequireOutsideOfGraphs(_current);
        if (writer != _current && (!_isCapturing || _current.IsCapturing))
        {
            _callersWork.Record(_current);
            writer.WaitFor(_callersWork);
        }
        if (awaitsReaders) AwaitReaders(writer);
        if (_callers is not null) return;
        AwaitOnHost(awaitsReaders ? _readersDone : _lastDone);
        if (FaultSeen(_site) is { } fault) throw fault;
    }

    private void AwaitReaders(CudaStream stream)
    {
        using CudaRuntime.LaunchScope launching = CudaRuntime.BeginLaunch();
        _kernels.Control.AwaitDone(stream, _exchange);
        if (!_isCapturing) _readersDone.Record(stream);
    }

    /// <summary>Whether none of its kernels runs, as far as it launched them itself.</summary>
    public bool IsIdle
    {
        get
        {
            try
            {
                return IsRetired && _isReleased || (_lastDone.IsDone && _readersDone.IsDone);
            }
            catch (CudaException failure)
            {
                // A context that is broken runs nothing any more; one that may not be asked because of a capture does.
                return failure.Recovery != Recovery.CallAgain;
            }
        }
    }

    public bool IsRetired { get; private set; }

    /// <summary>Where dispatches note when each of their parts ended (<see cref="DispatchMarks"/>), in memory that the device reaches; 0 for nowhere.</summary>
    public nint Marks { get; set; }

    /// <summary>Never waits: what kernels may still use is given back when none runs.</summary>
    public void Dispose()
    {
        _channel.RemoveWatcher(this);
        try
        {
            using CudaRuntime.LaunchScope launching = CudaRuntime.BeginLaunch();
            // The stream of the last call may be gone with its owner; what it held is done when the event is. The own one may be in a graph.
            CudaStream stream = _stream.IsCapturing ? Own(CudaStream.Create(_runtime.Context)) : _stream;
            stream.WaitFor(_lastDone);
            stream.WaitFor(_readersDone);
            if (_ownFault is null) _kernels.Control.Close(stream, _exchange);
            _lastDone.Record(stream);
        }
        catch (CudaException)
        {
            // The context is broken: nothing runs in it any more.
        }
        IsRetired = true;
        _runtime.Retire(Release);
    }

    private void Release()
    {
        for (int peer = 0; peer < _waited.Length; peer++) _ = WaitedFor(peer);
        lock (_asking) _isReleased = true;
        DisposeParts();
        foreach (ArenaMemory arena in _arenas) arena.Release();
    }

    private T Own<T>(T part)
        where T : IDisposable
    {
        _parts.Add(part);
        return part;
    }

    private void DisposeParts()
    {
        foreach (IDisposable part in _parts) part.Dispose();
    }

    /// <summary>The fault that broke this buffer, found by a kernel of any rank or by this rank's control plane.</summary>
    private SwitchyardException? FaultSeen(CallSite site)
    {
        if (Volatile.Read(ref _control->Faulted) != 0)
        {
            FaultRecord record = _control->Fault;
            bool isOwnTimeout = record.Kind == FaultKind.Timeout && record.Reporter == _channel.Rank && (uint)record.Culprit < (uint)_layout.Ranks;
            if (isOwnTimeout && _waitsOnHost && _channel.HasNoThreadOfItsOwn(record.Culprit)) record.HasNoThread = 1;
            SwitchyardException fault = record.ToException(_channel);
            if (fault is PeerLostException or PeerTimeoutException) _channel.NoteFault(record.Culprit, fault.Message);
            return fault;
        }
        if (Volatile.Read(ref _ownFault) is not { } own) return null;
        if (_channel.IsFenced) return new FencedException(_channel.Generation + 1, site);
        return (own.Record with { Operation = site.Operation, Phase = site.Phase, Epoch = site.Epoch }).ToException(_channel);
    }

    /// <summary>Throws a refusal once. Calls that were enqueued behind the refused one are void until the device is told, with the next, that it was.</summary>
    private void ThrowIfRefused()
    {
        ulong refused = Volatile.Read(ref _control->Refused);
        if (refused == 0 || refused == _acknowledged) return;
        DeviceRefusal why;
        CallSite site;
        int rank;
        long needed, available, number;
        do
        {
            refused = Volatile.Read(ref _control->Refused);
            why = _control->Refusal;
            site = new CallSite((Operation)_control->RefusedOperation, CallPhase.AwaitAnnouncement, (long)refused);
            (rank, number) = ((int)_control->RefusedRank, (long)_control->RefusedNumber);
            (needed, available) = (_control->RefusedNeeded, _control->RefusedAvailable);
        }
        while (refused == 0 || Volatile.Read(ref _control->Refused) != refused); // graphs may be refused meanwhile
        _acknowledged = refused;
        int behind = number == 0 ? -1 : (int)(_number - number);
        throw why switch
        {
            DeviceRefusal.NoBytes => Refusals.NoBytes(rank, needed, available, site, behind),
            DeviceRefusal.NoRows => Refusals.NoRows(rank, needed, available, _receiveCapacity, site, behind),
            DeviceRefusal.NoExpert => new RoutingException(rank, (int)needed, available, _layout.Experts, site, behind),
            _ => new VoidHandleException(rank, site, behind),
        };
    }

    private int DefaultBlocks(EngineSetup setup) => MultiprocessorDefault.For(
        setup.Options.MaxTokensPerRank, _layout.Ranks, _layout.TopK, _layout.RowBytes, setup.Neighbours, _mostBlocks);

    /// <summary>Blocks that wait for each other must run at once, each on a multiprocessor.</summary>
    private int BlocksOf(int multiprocessors)
    {
        if (multiprocessors >= 1 && multiprocessors <= _mostBlocks) return multiprocessors;
        throw new ArgumentOutOfRangeException(nameof(DeviceOptions.Multiprocessors), multiprocessors,
            $"DeviceOptions.Multiprocessors must be 1 to {_mostBlocks}: device {_runtime.Device.Ordinal} has {_runtime.Multiprocessors} multiprocessors, and the kernels of all ranks on it, which wait for each other, must run there at once.");
    }

    private ExchangeArgs Exchange(nint self)
    {
        var exchange = new ExchangeArgs
        {
            State = _private.Address,
            Control = _pinned.DeviceAddress,
            Self = self,
            AbortAt = _layout.AbortOffset,
            FaultsAt = _layout.FaultsOffset,
            ArrivalsAt = _layout.ArrivalsOffset,
            DoneAt = _layout.DoneOffset,
            ClosedAt = _layout.ClosedOffset,
            RingAt = _layout.RingOffset,
            PoolAt = _layout.PoolOffset,
            TotalBytes = _layout.TotalBytes,
            EntryBytes = (uint)_layout.EntryBytes,
            RankCountsAt = (uint)_layout.RankCountsOffset,
            ExpertCountsAt = (uint)_layout.ExpertCountsOffset,
            Rank = (uint)_channel.Rank,
            Ranks = (uint)_layout.Ranks,
            Experts = (uint)_layout.Experts,
            TopK = (uint)_layout.TopK,
        };
        for (int rank = 0; rank < _arenas.Length; rank++) exchange.Arenas[rank] = _arenas[rank].Address;
        return exchange;
    }

    private nint Write(long offset, int[] values)
    {
        nint target = _private.Address + (nint)offset;
        fixed (int* source = values) _runtime.CopyNow(target, (nint)source, values.Length * sizeof(int));
        return target;
    }

    private static long Line(long bytes) => ArenaLayout.AlignUp(bytes, ArenaLayout.LineBytes);

    /// <summary>A fault that this rank's control plane knows of, on another thread than that of the calls.</summary>
    private sealed record OwnFault(FaultRecord Record);
}

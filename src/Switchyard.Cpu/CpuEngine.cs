using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Runs the phases of a call on the caller's thread, and moves rows on the crew's.</summary>
internal sealed unsafe class CpuEngine : IScaleUpEngine
{
    private readonly HostPlanner _planner;
    private readonly long[] _load;
    private readonly HostProtocol _protocol;
    private readonly WorkerCrew _crew;
    private readonly ReceiveRegion _region;
    private readonly PushJob _push;
    private readonly PullJob _pull;
    private readonly CopyJob _copy;
    private readonly SumJob _sum;
    private readonly CpuTuning _tuning;
    private readonly long _streamingBytes;
    private readonly long _rowBytes;
    private long _announced;

    public CpuEngine(EngineSetup setup, CpuTuning tuning)
    {
        _tuning = tuning;
        _planner = new HostPlanner(setup.Options);
        _load = new long[setup.Options.PlacementFor(setup.Channel.Size).ExpertsOf(setup.Channel.Rank).Length];
        _protocol = new HostProtocol(setup);
        try
        {
            _crew = new WorkerCrew(setup.Options.WorkerThreadsFor(setup.Neighbours), setup.Options.CpuAffinity);
        }
        catch
        {
            _protocol.Dispose();
            throw;
        }
        _region = new ReceiveRegion(_protocol);
        var reducer = RowReducer.For(setup.Layout.Element, tuning.Width);
        _push = new PushJob(_protocol.Arenas, tuning.Width);
        _pull = new PullJob(_protocol.Arenas, reducer);
        _copy = new CopyJob(setup.Layout, tuning.Width);
        _sum = new SumJob(setup.Layout, reducer);
        _streamingBytes = tuning.StreamingBytesFor(setup.Channel.Size);
        _rowBytes = setup.Layout.RowBytes;
    }

    public TimeSpan Deadline
    {
        get => _protocol.Deadline;
        set => _protocol.Deadline = value;
    }

    public ReadOnlySpan<long> CumulativeTokensPerExpert => _load;

    /// <summary>Whoever announced the last call was done with those before.</summary>
    public long Settled => _announced - 1;

    public bool IsCapturing => false;

    public void ThrowIfBroken() => _protocol.ThrowIfBroken();

    public void RequireReachable(ReadOnlyTensorView tensor, string name, long rowBytes)
    {
        if (tensor.Device >= 0) throw new ArgumentException($"{name} is memory of device {tensor.Device}; the buffer's backend is CpuBackend, which takes memory of the host.", name);
    }

    public void Enter(in DeviceOptions device)
    {
        if (device != default) throw new ArgumentException("DeviceOptions are given, but the buffer's backend is CpuBackend: leave them out.", nameof(device));
    }

    public long Count(RoutingPlan plan, ReadOnlyTensorView topkIndices)
    {
        _planner.Count(plan, topkIndices);
        return 0;
    }

    public void AwaitDone(long epoch, CallSite site)
    {
        if (epoch > 0) _protocol.AwaitDone(epoch, site);
    }

    public void Dispatch(in DispatchCall call)
    {
        RoutingPlan plan = call.Plan;
        Announce(call.Announcement, plan);
        Agreement agreement = _protocol.Agree(call.Announcement, plan);
        if (!call.IsCached) AddLoad(plan);
        int rank = _protocol.Arenas.Rank;
        var receive = new ReceiveCall
        {
            Epoch = call.Announcement.Epoch,
            Plan = plan,
            RegionOffset = call.Announcement.RegionOffset,
            Region = agreement.Regions[rank],
            HasMetadata = !call.IsCached,
            ZeroPadding = plan.Options.ZeroPadding,
            Site = new CallSite(call.Announcement.Signature.Operation, CallPhase.AwaitRows, call.Announcement.Epoch),
        };
        _region.Prepare(receive);
        fixed (int* choices = _planner.Choices)
        {
            Push(new PushCall
            {
                Epoch = call.Announcement.Epoch,
                Plan = plan,
                Agreement = agreement,
                Rows = call.Rows,
                Scales = call.Scales,
                Quantize = call.Quantize,
                TopkIndices = call.IsCached ? null : choices,
                TopkWeights = call.TopkWeights,
            });
        }
        AwaitRows(receive);
    }

    public void CopyResults(in OfferCall call)
    {
        int rows = (int)call.Plan.TotalRows[_protocol.Arenas.Rank];
        _copy.Call = call;
        _copy.Streams = Streams(rows, _rowBytes);
        _crew.Run(_copy, rows, Piece(rows, rows * _rowBytes));
    }

    public void SumGroups(in OfferCall call)
    {
        int groups = (int)call.Plan.TotalTokens[_protocol.Arenas.Rank];
        _sum.Call = call;
        _sum.Streams = Streams(groups, _rowBytes);
        _crew.Run(_sum, groups, Piece(groups, call.Plan.TotalRows[_protocol.Arenas.Rank] * _rowBytes));
    }

    public void CopyWeights(nint source, nint destination, long bytes) => Buffer.MemoryCopy((void*)source, (void*)destination, bytes, bytes);

    public void Combine(in CombineCall call)
    {
        RoutingPlan plan = call.Plan;
        Announce(call.Announcement, plan);
        _pull.Call = new PullCall { Combine = call, Agreement = _protocol.Agree(call.Announcement, plan) };
        _pull.Streams = Streams(plan.Tokens, _rowBytes);
        _crew.Run(_pull, plan.Tokens, Piece(plan.Tokens, plan.Summed.CountOf(plan.Tokens) * _rowBytes));
        _protocol.SignalDone(call.Announcement.Epoch);
    }

    public TimeSpan WaitedFor(int peer) => _protocol.WaitedFor(peer);

    public void Dispose()
    {
        _crew.Dispose();
        _protocol.Dispose();
    }

    private void Announce(in Announcement announcement, RoutingPlan plan)
    {
        _announced = announcement.Epoch;
        _protocol.Announce(announcement, plan);
    }

    private void Push(in PushCall call)
    {
        RoutingPlan plan = call.Plan;
        int rows = plan.Sent.CountOf(plan.Tokens), rowBytes = call.Agreement.Regions[0].Shape.Format.RowBytes;
        _push.Call = call;
        _push.Streams = Streams(rows, rowBytes);
        _crew.Run(_push, plan.Tokens, Piece(plan.Tokens, (long)rows * rowBytes));
        _protocol.SignalRows(call.Epoch, plan);
    }

    private void AwaitRows(in ReceiveCall call)
    {
        _protocol.AwaitRows(call.Epoch, call.Plan, call.Site);
        if (call.HasMetadata && call.Plan.IsPreReduced) _region.TakeGroups(call);
    }

    private void AddLoad(RoutingPlan plan)
    {
        for (int local = 0; local < _load.Length; local++) _load[local] += plan.TokensPerExpert[local];
    }

    private bool Streams(long rows, long rowBytes) => rows * rowBytes >= _streamingBytes;

    /// <summary>How many items a thread takes at a time, of so many that move so many bytes together.</summary>
    private int Piece(int items, long bytes) => items == 0 ? 1 : (int)Math.Clamp(_tuning.PieceBytes * items / Math.Max(1, bytes), 1, items);
}

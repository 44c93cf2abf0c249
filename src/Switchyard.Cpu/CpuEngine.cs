using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Runs the phases of a call on the caller's thread, and moves rows on the crew's.</summary>
internal sealed class CpuEngine : IScaleUpEngine
{
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

    public CpuEngine(EngineSetup setup, CpuTuning tuning)
    {
        _tuning = tuning;
        _protocol = new HostProtocol(setup);
        _crew = new WorkerCrew(setup.Options.WorkerThreadsFor(setup.Neighbours), setup.Options.CpuAffinity);
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

    public void ThrowIfBroken() => _protocol.ThrowIfBroken();

    public void AwaitDone(long epoch, CallSite site) => _protocol.AwaitDone(epoch, site);

    public void Announce(in Announcement announcement, RoutingPlan plan) => _protocol.Announce(announcement, plan);

    public Agreement Agree(in Announcement mine, RoutingPlan plan) => _protocol.Agree(mine, plan);

    public void Prepare(in ReceiveCall call) => _region.Prepare(call);

    public void Push(in PushCall call)
    {
        RoutingPlan plan = call.Plan;
        int rows = plan.Sent.CountOf(plan.Tokens), rowBytes = call.Agreement.Regions[0].Shape.Format.RowBytes;
        _push.Call = call;
        _push.Streams = Streams(rows, rowBytes);
        _crew.Run(_push, plan.Tokens, Piece(plan.Tokens, (long)rows * rowBytes));
        _protocol.SignalRows(call.Epoch, plan);
    }

    public void AwaitRows(in ReceiveCall call)
    {
        _protocol.AwaitRows(call.Epoch, call.Plan, call.Site);
        if (call.HasMetadata && call.Plan.IsPreReduced) _region.TakeGroups(call);
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

    public void Pull(in PullCall call)
    {
        RoutingPlan plan = call.Plan;
        _pull.Call = call;
        _pull.Streams = Streams(plan.Tokens, _rowBytes);
        _crew.Run(_pull, plan.Tokens, Piece(plan.Tokens, plan.Summed.CountOf(plan.Tokens) * _rowBytes));
        _protocol.SignalDone(call.Epoch);
    }

    public TimeSpan WaitedFor(int peer) => _protocol.WaitedFor(peer);

    public void Dispose()
    {
        _crew.Dispose();
        _protocol.Dispose();
    }

    private bool Streams(long rows, long rowBytes) => rows * rowBytes >= _streamingBytes;

    /// <summary>How many items a thread takes at a time, of so many that move so many bytes together.</summary>
    private int Piece(int items, long bytes) => items == 0 ? 1 : (int)Math.Clamp(_tuning.PieceBytes * items / Math.Max(1, bytes), 1, items);
}

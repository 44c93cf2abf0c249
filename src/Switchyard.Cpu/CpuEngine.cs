using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Runs the phases of a call on the caller's thread.</summary>
internal sealed class CpuEngine(EngineSetup setup) : IScaleUpEngine
{
    private readonly HostProtocol _protocol = new(setup);
    private readonly RowReducer _reducer = RowReducer.For(setup.Layout.Element);

    public TimeSpan Deadline
    {
        get => _protocol.Deadline;
        set => _protocol.Deadline = value;
    }

    public void ThrowIfBroken() => _protocol.ThrowIfBroken();

    public void AwaitDone(long epoch, CallSite site) => _protocol.AwaitDone(epoch, site);

    public void Announce(in Announcement announcement, RoutingPlan plan) => _protocol.Announce(announcement, plan);

    public Agreement Agree(in Announcement mine, RoutingPlan plan) => _protocol.Agree(mine, plan);

    public void Push(in PushCall call)
    {
        RowPush.Run(_protocol.Arenas, call);
        _protocol.SignalRows(call.Epoch, call.Plan);
    }

    public void AwaitRows(long epoch, RoutingPlan plan, CallSite site) => _protocol.AwaitRows(epoch, plan, site);

    public void Pull(in PullCall call)
    {
        RowPull.Run(_protocol.Arenas, call, _reducer);
        _protocol.SignalDone(call.Epoch);
    }

    public void Dispose() => _protocol.Dispose();
}

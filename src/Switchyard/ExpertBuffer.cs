using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard;

/// <summary>
/// Dispatches tokens to the ranks that hold their experts and combines the results, for one shape. Made collectively by
/// <see cref="CreateAsync"/>; every call is made by all ranks in the same order.
/// </summary>
/// <remarks>
/// One caller at a time; ranks of one process need a thread each, since calls wait for each other. An argument error is thrown before
/// anything is sent and consumes nothing: the call may be repeated, while the peers wait until their deadline. What other errors leave
/// behind is told by <see cref="SwitchyardException.Recovery"/>.
/// </remarks>
public sealed unsafe partial class ExpertBuffer : IDisposable
{
    private readonly IScaleUpEngine _engine;
    private readonly ArenaMemory[] _arenas;
    private readonly RegionPool _pool;
    private readonly ExpertPlacement _placement;
    private readonly int _receiveCapacity;
    private readonly Stack<RoutingPlan> _freePlans = new();
    private readonly Stack<ResultState> _freeStates = new();
    private readonly List<ResultState> _liveStates = [];
    private bool _hasGraphMemory;
    private long _epoch;
    private int _isBusy;
    private bool _isDisposed;

    private ExpertBuffer(ExpertGroup group, ExpertBufferOptions options, ArenaLayout layout, ArenaMemory[] arenas, IScaleUpEngine engine)
    {
        Group = group;
        Options = options;
        Layout = layout;
        _arenas = arenas;
        _placement = options.PlacementFor(group.Size);
        _pool = new RegionPool(layout.PoolOffset, layout.PoolBytes);
        _receiveCapacity = options.ReceiveCapacityFor(group.Size);
        ArenaBase = (byte*)arenas[group.Rank].Address;
        _engine = engine;
        _engine.Deadline = options.Deadline;
    }

    /// <summary>The group.</summary>
    public ExpertGroup Group { get; }

    /// <summary>What the buffer was made with.</summary>
    public ExpertBufferOptions Options { get; }

    /// <summary>How long a wait for a peer may take. May be changed at any time.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not positive, or more than a day.</exception>
    public TimeSpan Deadline
    {
        get => _engine.Deadline;
        set
        {
            ExpertBufferOptions.RequireDeadline(value);
            _engine.Deadline = value;
        }
    }

    /// <summary>The experts this rank holds, ascending: local expert i is expert LocalExperts[i].</summary>
    public ReadOnlySpan<int> LocalExperts => _placement.ExpertsOf(Group.Rank);

    /// <summary>Per local expert: the choices of it that all dispatches so far brought, cached ones not counted.</summary>
    public ReadOnlySpan<long> CumulativeTokensPerExpert => _engine.CumulativeTokensPerExpert;

    internal ArenaLayout Layout { get; }

    internal IScaleUpEngine Engine => _engine;

    /// <summary>The device in whose memory the arena is; -1 for the host's.</summary>
    internal int Device => Options.Backend.Device;

    internal byte* ArenaBase { get; }

    /// <summary>
    /// How long this rank has waited for another so far, in all calls: for its announcements, rows and reading. It grows fastest for
    /// the rank that the others wait for. May be asked at any time, by any thread.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="rank"/> is no rank of the group.</exception>
    public TimeSpan WaitedFor(int rank)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rank);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(rank, Group.Size);
        return _engine.WaitedFor(rank);
    }

    /// <summary>
    /// Throws the fault that broke the buffer, or the refusal of a call that did not wait for it, as the next call would. For those who run graphs and
    /// make no calls. Waits for nothing: wait for the stream first.
    /// </summary>
    /// <exception cref="CapacityException">A rank had no room. Once.</exception>
    /// <exception cref="RoutingException">A rank's choices were wrong. Once.</exception>
    /// <exception cref="VoidHandleException">A rank gave the handle of a dispatch that was refused. Once.</exception>
    /// <exception cref="SwitchyardException">The buffer is broken.</exception>
    public void ThrowIfFailed()
    {
        Enter();
        try
        {
            ThrowIfOver();
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>Gives the arena back. Local, idempotent, never waits for a peer; views of results must not be used any more.</summary>
    /// <exception cref="InvalidOperationException">A call is running on another thread.</exception>
    public void Dispose()
    {
        TakeTurn();
        if (_isDisposed)
        {
            Leave();
            return;
        }
        _isDisposed = true;
        foreach (ResultState state in _liveStates) state.Epoch = 0;
        _engine.Dispose();
        foreach (ArenaMemory arena in _arenas) arena.Release();
        Leave();
    }

    internal void Recycle(RoutingPlan plan)
    {
        lock (_freePlans)
        {
            _freePlans.Push(plan);
            if (plan.GraphMemory.Count > 0) Volatile.Write(ref _hasGraphMemory, true);
        }
    }

    internal void Return(ResultState state)
    {
        state.Epoch = 0;
        ReturnRegion(state.Rows, state.RowsReadUntil);
        ReturnRegion(state.Results, state.ResultsReadUntil);
        state.Plan.Release();
        _liveStates.Remove(state);
        _freeStates.Push(state);
    }

    internal TensorView ResultRowsOf(ResultState state)
    {
        long bytes = ArenaLayout.AlignUp(state.Region.Rows * Layout.RowBytes, ArenaLayout.LineBytes);
        if (state.Results.Bytes < bytes)
        {
            var site = new CallSite(Operation.None, CallPhase.AwaitDone, state.Epoch);
            if (!TryTake(bytes, site, out Region region))
            {
                throw new CapacityException(Group.Rank, bytes, _pool.LongestRun(), "bytes",
                    "Dispose results, or raise ExpertBufferOptions.MemoryBudget.", site);
            }
            state.Results = region;
        }
        return state.View(state.Results, Layout.Format);
    }

    /// <summary>Takes memory of the pool and waits until nobody reads it; takes nothing if there is not enough.</summary>
    private bool TryTake(long bytes, CallSite site, out Region region)
    {
        ReturnGraphMemory();
        region = bytes == 0 ? default : _pool.Take(bytes);
        if (region.Bytes < bytes)
        {
            _pool.Return(region, region.ReadUntil);
            region = default;
            return false;
        }
        try
        {
            if (bytes > 0) _engine.AwaitDone(region.ReadUntil, site);
        }
        catch
        {
            _pool.Return(region, region.ReadUntil);
            throw;
        }
        return true;
    }

    /// <summary>Gives a region back. When a graph read it last, nobody knows: at the latest before the next call that is made.</summary>
    private void ReturnRegion(Region region, long readUntil) => _pool.Return(region, readUntil == ResultState.ByGraphs ? _epoch + 1 : readUntil);

    /// <summary>Takes back what graphs copied to, whose plans are gone.</summary>
    private void ReturnGraphMemory()
    {
        if (!Volatile.Read(ref _hasGraphMemory)) return;
        lock (_freePlans)
        {
            _hasGraphMemory = false;
            foreach (RoutingPlan plan in _freePlans) ReturnGraphMemory(plan);
        }
    }

    private void ReturnGraphMemory(RoutingPlan plan)
    {
        foreach (Region region in plan.GraphMemory) ReturnRegion(region, ResultState.ByGraphs);
        plan.GraphMemory.Clear();
    }

    private void Enter()
    {
        TakeTurn();
        // Only in one's turn: Dispose takes one too.
        if (!_isDisposed) return;
        Leave();
        throw new ObjectDisposedException(nameof(ExpertBuffer));
    }

    private void TakeTurn()
    {
        if (Interlocked.Exchange(ref _isBusy, 1) != 0)
            throw new InvalidOperationException("Another thread is in a call of this buffer: a buffer has one caller at a time.");
    }

    private void ThrowIfOver()
    {
        Group.Channel.ThrowIfOver(new CallSite(Operation.None, CallPhase.None, _epoch + 1));
        _engine.ThrowIfBroken();
    }

    private void Leave() => Volatile.Write(ref _isBusy, 0);

    /// <summary>Begins a call: nothing is sent yet and no epoch consumed.</summary>
    private long Begin()
    {
        Enter();
        try
        {
            ThrowIfOver();
        }
        catch
        {
            Leave();
            throw;
        }
        Group.Channel.NoteDriver();
        FaultPoints.Pass(FaultPoint.BeginCall);

        ReturnGraphMemory();
        _pool.Settle(_engine.Settled);
        return _epoch + 1;
    }
}

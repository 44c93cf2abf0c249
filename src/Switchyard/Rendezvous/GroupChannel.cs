using System.Diagnostics;
using Switchyard.Transports;

namespace Switchyard.Rendezvous;

/// <summary>What is known about a peer's life. It only ever moves forward.</summary>
internal enum PeerState : byte
{
    Alive = 0,

    /// <summary>It said goodbye: everything it ever wrote is visible, and nothing will follow.</summary>
    Left = 1,

    /// <summary>Its process is gone without a goodbye.</summary>
    Lost = 2,
}

/// <summary>What one rank gave to an all-gather.</summary>
/// <param name="Payload">Its bytes.</param>
/// <param name="Arena">The arena it shared, if any; the receiver owns it and disposes it.</param>
internal readonly record struct Gathered(byte[] Payload, ArenaExport? Arena);

/// <summary>A group's next membership.</summary>
/// <param name="Channel">This rank's channel in it.</param>
/// <param name="FormerRanks">The rank that each member had before, by rank; -1 for a newcomer.</param>
internal sealed record Succession(GroupChannel Channel, int[] FormerRanks);

/// <summary>Is told once for each peer that leaves or is lost, on the channel's own thread; must not block or throw.</summary>
internal interface IPeerWatcher
{
    void OnPeerGone(PeerInfo peer, PeerState state, string cause);
}

/// <summary>
/// The control plane of a group, as one rank sees it: who the peers are, whether they live, and a small ordered all-gather.
/// Not a hot path. All ranks make the same calls in the same order; each rank makes them one at a time.
/// </summary>
internal abstract class GroupChannel : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<IPeerWatcher> _watchers = [];
    private readonly int[] _states; // PeerState, as int for Volatile
    private volatile PeerInfo[] _lostTogether = [];
    private volatile Succession? _successor;
    private long _nextGeneration;
    private volatile bool _isFenced;
    private readonly string[] _causes;

    protected GroupChannel(int rank, PeerInfo[] peers, long generation)
    {
        Rank = rank;
        Peers = peers;
        Generation = generation;
        _states = new int[peers.Length];
        _causes = new string[peers.Length];
    }

    public int Rank { get; }

    public int Size => Peers.Length;

    /// <summary>All ranks, this one included, by rank.</summary>
    public PeerInfo[] Peers { get; }

    /// <summary>Numbers the group's memberships; every frame and arena carries it, so that one of another membership is refused.</summary>
    public long Generation { get; }

    /// <summary>How long an all-gather waits for the other ranks.</summary>
    public TimeSpan Deadline { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>
    /// Gives every rank every rank's bytes and arena, in rank order. Fails with <see cref="PeerLostException"/> as soon as a rank that
    /// has not contributed is gone, and with <see cref="PeerTimeoutException"/> at the deadline. That, as cancelling, leaves the channel unusable.
    /// </summary>
    public async Task<Gathered[]> AllGatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct)
    {
        HasGathered = true;
        long start = Stopwatch.GetTimestamp();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(ct);
        limit.CancelAfter(Deadline);
        try
        {
            return await GatherAsync(payload, arena, limit.Token).ConfigureAwait(false);
        }
        catch (PeerLostException lost)
        {
            NoteFault(lost.Peer.Rank, lost.Message);
            throw;
        }
        catch (OperationCanceledException) when (!ct.IsCancellationRequested)
        {
            (int peer, long call) = FirstAbsent();
            throw Late(peer, CallPhase.Create, call, start, "It has not made this collective call of the group");
        }
    }

    /// <summary>
    /// Agrees with all who have neither left nor been lost nor are evicted on who goes on, and returns this rank's channel among them. All of
    /// them must call it. A call that timed out or was cancelled may be repeated, with more to evict.
    /// </summary>
    public async Task<Succession> RebuildAsync(RankSet evicted, CancellationToken ct)
    {
        long start = Stopwatch.GetTimestamp();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(ct);
        limit.CancelAfter(Deadline);
        try
        {
            return await SucceedAsync(evicted, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!ct.IsCancellationRequested)
        {
            int absent = FirstWithoutVote();
            throw Late(absent, CallPhase.Rebuild, Generation + 1, start, "It has not called RebuildAsync, or does not answer: evict it, or call again");
        }
    }

    /// <summary>Makes room for newcomers at the end of the group. All ranks must call it.</summary>
    public abstract Task<Succession> GrowAsync(int newcomers, CancellationToken ct);

    /// <summary>Whether another channel has taken this one's place.</summary>
    public bool IsOver => Volatile.Read(ref _nextGeneration) != 0;

    /// <summary>The channel that has taken this one's place, until somebody holds it.</summary>
    public Succession? Successor => _successor;

    /// <summary>The same while no group has it: this rank's vote of an attempt that failed can end one that the others began, before it calls again.</summary>
    public Succession? UnheldSuccessor => _successor is { Channel.IsHandedOut: false } next ? next : null;

    /// <summary>Lets go of the channel that has taken this one's place: whoever keeps the first group of a job must not keep all of them.</summary>
    public void ReleaseSuccessor() => _successor = null;

    /// <summary>Whether an all-gather was begun.</summary>
    public bool HasGathered { get; private set; }

    /// <summary>Whether a group of its own has it; one that has not belongs to the group whose rebuild made it and did not end well.</summary>
    public bool IsHandedOut { get; set; }

    /// <summary>The ranks that were found lost first, all that went together; empty while none is.</summary>
    public IReadOnlyList<PeerInfo> LostTogether => _lostTogether;

    /// <summary>Whether the others have gone on without this rank.</summary>
    public bool IsFenced => _isFenced;

    /// <summary>Refuses a call on a group that there is no more.</summary>
    public void ThrowIfOver(CallSite site)
    {
        if (_isFenced) throw new FencedException(Generation + 1, site);
        if (IsOver)
        {
            throw new InvalidOperationException(
                $"The group was rebuilt (generation {Volatile.Read(ref _nextGeneration)}): use the group that was returned, and make its buffers anew.");
        }
    }

    protected abstract Task<Gathered[]> GatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct);

    /// <inheritdoc cref="RebuildAsync"/>
    protected abstract Task<Succession> SucceedAsync(RankSet evicted, CancellationToken ct);

    /// <summary>A rank that a rebuild still waits for.</summary>
    protected abstract int FirstWithoutVote();

    /// <summary>After a gather that was cancelled: the first rank that has not contributed to it, and the gather's number from 1.</summary>
    protected abstract (int Peer, long Call) FirstAbsent();

    /// <summary>Says goodbye to the peers and closes. Local, idempotent, never waits for a peer.</summary>
    public abstract void Dispose();

    public PeerState StateOf(int rank) => (PeerState)Volatile.Read(ref _states[rank]);

    public string CauseOf(int rank) => _causes[rank] ?? "";

    /// <summary>Notes for the launcher that this rank fails because of another.</summary>
    public virtual void NoteFault(int culprit, string message)
    {
    }

    /// <summary>Looks whether a rank that is waited for can still answer; what it finds comes to the watchers. Must not allocate.</summary>
    public virtual void Examine(int rank)
    {
    }

    /// <summary>Whether a rank is in this process and no thread but the calling one has driven it: then waiting for it is waiting for oneself.</summary>
    public virtual bool HasNoThreadOfItsOwn(int rank) => false;

    /// <summary>Notes that the calling thread drives this rank.</summary>
    public virtual void NoteDriver()
    {
    }

    /// <summary>Adds a watcher and tells it at once about peers that are gone already.</summary>
    public void AddWatcher(IPeerWatcher watcher)
    {
        lock (_gate)
        {
            _watchers.Add(watcher);
            for (int rank = 0; rank < Size; rank++)
            {
                if (StateOf(rank) != PeerState.Alive) watcher.OnPeerGone(Peers[rank], StateOf(rank), _causes[rank]);
            }
        }
    }

    public void RemoveWatcher(IPeerWatcher watcher)
    {
        lock (_gate) _watchers.Remove(watcher);
    }

    /// <summary>Records ranks that were lost at the same time, before any of them is reported.</summary>
    protected void NoteLostTogether(RankSet ranks)
    {
        if (_lostTogether.Length == 0) _lostTogether = [.. ranks.Select(rank => Peers[rank])];
    }

    protected void NoteFence() => _isFenced = true;

    protected void NoteSuccessor(Succession successor)
    {
        _successor = successor;
        Volatile.Write(ref _nextGeneration, successor.Channel.Generation);
    }

    /// <summary>Records that a peer is gone and tells the watchers. Only the first report of a peer counts.</summary>
    protected void ReportGone(int rank, PeerState state, string cause)
    {
        lock (_gate)
        {
            if (StateOf(rank) != PeerState.Alive) return;
            _causes[rank] = cause;
            Volatile.Write(ref _states[rank], (int)state);
            // A copy: a watcher may take itself off the list when it is told.
            foreach (IPeerWatcher watcher in _watchers.ToArray()) watcher.OnPeerGone(Peers[rank], state, cause);
        }
    }

    private PeerTimeoutException Late(int peer, CallPhase phase, long expected, long start, string what)
    {
        var late = new PeerTimeoutException(
            Peers[peer], Rank, new CallSite(Operation.None, phase, 0), expected, expected - 1, Stopwatch.GetElapsedTime(start),
            $"{what}; the deadline is ExpertGroup.Deadline.");
        NoteFault(peer, late.Message);
        return late;
    }
}

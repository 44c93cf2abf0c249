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
            var late = new PeerTimeoutException(
                Peers[peer], Rank, new CallSite(Operation.None, CallPhase.Create, 0), call, call - 1, Stopwatch.GetElapsedTime(start),
                "It has not made this collective call of the group; the deadline is ExpertGroup.Deadline.");
            NoteFault(peer, late.Message);
            throw late;
        }
    }

    protected abstract Task<Gathered[]> GatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct);

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
}

using Switchyard.Interop;
using Switchyard.Protocol;

namespace Switchyard.Rendezvous;

/// <summary>The thread that receives, sends what did not go at once, and notices peers that leave or die.</summary>
internal sealed partial class ControlChannel
{
    /// <summary>A dying process closes its sockets shortly before it is gone; so long is waited to be able to say which it was.</summary>
    private const int LastBreathMs = 5;

    /// <summary>
    /// Ranks that die together are seen by one survivor before the other; all must name the same. So long is waited for what the others see: long
    /// enough for a busy machine to take a dying process down, short for the caller. Only a survivor that is stopped makes it wait that long.
    /// </summary>
    private const int SettleMs = 250;

    private readonly Thread _monitor;
    private readonly WakeEvent _wake = new();
    private readonly PollSet _poll = new();
    private readonly byte[] _buffer = new byte[LinkFrame.MaxBytes];
    private readonly Accord _losses;
    private readonly Sign[] _signs;
    private RankSet _settled;
    private long _settleBy;
    private volatile bool _stopping;

    /// <summary>What first showed that a rank is lost.</summary>
    /// <param name="IsClosed">Its connection had ended.</param>
    /// <param name="Reporter">Who told of it; -1 for nobody.</param>
    /// <param name="Denied">The rank of this machine that it took for lost although it lives; -1 for none.</param>
    private readonly record struct Sign(bool IsClosed, int Reporter, int Denied = -1);

    private void Watch()
    {
        while (!_stopping && !IsOver)
        {
            Await();
            var news = new List<RankNews>();
            lock (_gate) Exchange(news);
            // Not under the lock: watchers are told.
            foreach (RankNews each in news) Hear(each);
            if (IsOver) break;
            ReportEnded();
            SettleLosses();
            lock (_gate) Settle();
            AdvanceVote();
        }
        if (!IsOver) Close();
        else Retire();
    }

    /// <inheritdoc/>
    public override void Examine(int rank)
    {
        if (_links[rank] is not { } link || StateOf(rank) != PeerState.Alive) return;
        lock (_gate)
        {
            if (link.HasEnded || link.WasSeenEnding || !link.IsProcessEnding) return;
            link.WasSeenEnding = true;
            _wake.Set();
        }
    }

    private void Await()
    {
        _poll.Clear();
        _poll.Add(_wake.Descriptor, Libc.POLLIN);
        var processes = new List<(PeerLink Link, int Index)>();
        lock (_gate)
        {
            foreach (PeerLink link in Live())
            {
                // What lies behind a commit is not for this membership: it stays unread, and must not wake us.
                if (!link.HasCommitted) _poll.Add(link.Socket.Descriptor, (short)(Libc.POLLIN | (link.IsSending ? Libc.POLLOUT : 0)));
                if (link.Process is { } process) processes.Add((link, _poll.Add((int)process.DangerousGetHandle(), Libc.POLLIN)));
            }
        }
        _poll.Wait(_settleBy == 0 ? -1 : (int)Math.Max(0, _settleBy - Environment.TickCount64));
        if (_poll.IsReady(0)) _wake.Reset();
        // Seen before the links are read: what such a process had sent is then all there to be read.
        foreach ((PeerLink link, int index) in processes) link.IsProcessGone = _poll.IsReady(index);
    }

    private IEnumerable<PeerLink> Live() =>
        _links.OfType<PeerLink>().Where(link => StateOf(link.Peer) == PeerState.Alive && !_losses.Out.Contains(link.Peer));

    /// <summary>Receives and sends what is possible now; collects what peers tell of ranks, in the order it came.</summary>
    private void Exchange(List<RankNews> news)
    {
        foreach (PeerLink link in Live())
        {
            link.Pump();
            link.Receive(_buffer, news);
        }
    }

    private void Hear(RankNews news)
    {
        switch (news.Kind)
        {
            case LinkFrameKind.Lost:
                _losses.Hear(news.Peer, news.Ranks);
                SuspectAll(news);
                break;
            case LinkFrameKind.Settled:
                SuspectAll(news);
                if (!news.Ranks.Without(_settled).IsEmpty) Conclude(news.Ranks);
                break;
            case LinkFrameKind.Vote:
                _vote.Hear(news.Peer, news.Ranks);
                break;
            case LinkFrameKind.Commit:
                TakeCommit(news);
                break;
            default:
                TakeFence();
                break;
        }
    }

    /// <summary>Notices the peers whose links have ended or whose processes are gone; those that said goodbye have left.</summary>
    private void ReportEnded()
    {
        foreach (PeerLink link in Live().ToArray())
        {
            if (link.SaidGoodbye && link.Violation is null) Leave(link);
            else if (link.HasEnded || ((link.IsProcessGone || link.WasSeenEnding) && link.IsDrained)) Suspect(link.Peer, reporter: -1);
        }
    }

    private void Leave(PeerLink link)
    {
        lock (_gate) link.End();
        ReportGone(link.Peer, PeerState.Left, "it left the group");
    }

    private void SuspectAll(RankNews news)
    {
        foreach (int rank in news.Ranks.Without(_losses.Out)) Suspect(rank, news.Peer);
    }

    /// <summary>
    /// Takes a rank for lost and tells all peers, before anything of this rank can fail because of it: so those who see this rank die of it
    /// know what came first.
    /// </summary>
    private void Suspect(int rank, int reporter)
    {
        if (rank == Rank || _losses.Out.Contains(rank)) return;
        PeerLink link = _links[rank]!;
        if (reporter >= 0 && StateOf(rank) == PeerState.Alive) ReadLastWords(link);
        if (_losses.Out.Contains(rank)) return; // it was among its own last words' losses
        if (link.SaidGoodbye && StateOf(rank) == PeerState.Alive) Leave(link);
        if (reporter >= 0 && IsKnownBetter(link, reporter)) TakeForLost(_links[reporter]!, new Sign(IsClosed: false, Reporter: -1, Denied: rank));
        else TakeForLost(link, new Sign(link.HasEnded, reporter));
    }

    /// <summary>
    /// Whether what a rank of another machine reports is denied by what the kernel knows here: the process lives. Then it is the reporter that
    /// is cut off, maybe in one direction only, and whoever believed it would part from those of its own machine.
    /// </summary>
    private bool IsKnownBetter(PeerLink link, int reporter) =>
        Peers[link.Peer].Node == Peers[Rank].Node && Peers[reporter].Node != Peers[Rank].Node
        && StateOf(link.Peer) == PeerState.Alive && !link.HasEnded && !link.IsProcessGone && !link.IsProcessEnding;

    private void TakeForLost(PeerLink link, Sign sign)
    {
        if (_losses.Out.Contains(link.Peer)) return;
        _signs[link.Peer] = sign;
        lock (_gate)
        {
            link.End();
            _losses.Add(default(RankSet).With(link.Peer));
            foreach (PeerLink other in Live()) Tell(other, LinkFrameKind.Lost, _losses.Out, FaultPoint.LostToPeer);
        }
        if (_settleBy == 0) _settleBy = Environment.TickCount64 + SettleMs;
    }

    private static void Tell(PeerLink peer, LinkFrameKind kind, RankSet ranks, FaultPoint point)
    {
        peer.Notify(kind, ranks);
        FaultPoints.Pass(point);
    }

    /// <summary>What a peer reports of another is held against our own link to it, which may hold its goodbye, or what it died of.</summary>
    private void ReadLastWords(PeerLink link)
    {
        var earlier = new List<RankNews>();
        lock (_gate) link.Receive(_buffer, earlier);
        foreach (RankNews each in earlier) Hear(each);
    }

    /// <summary>
    /// Settles which ranks are lost together, once all who live see the same ones: the lowest of them decides, so that no two decide differently.
    /// Who waits for one that does not answer decides alone.
    /// </summary>
    private void SettleLosses()
    {
        if (_settleBy == 0) return;
        int decider = _losses.Members.First(rank => rank == Rank || StateOf(rank) == PeerState.Alive);
        bool isUnanimous = !_losses.Missing.Any(peer => StateOf(peer) == PeerState.Alive);
        if ((decider == Rank && isUnanimous) || Environment.TickCount64 >= _settleBy) Conclude(_losses.Out);
    }

    /// <summary>Passes a decision on, and only then lets calls fail: whoever survives this rank knows what it knew.</summary>
    private void Conclude(RankSet lost)
    {
        _settled = _settled.With(lost);
        _settleBy = _losses.Out == _settled ? 0 : Environment.TickCount64 + SettleMs;
        lock (_gate)
        {
            foreach (PeerLink link in Live()) Tell(link, LinkFrameKind.Settled, lost, FaultPoint.SettledToPeer);
        }
        var reported = RankSet.Of(lost.Where(rank => rank != Rank && StateOf(rank) == PeerState.Alive));
        NoteLostTogether(reported);
        foreach (int rank in reported) ReportGone(rank, PeerState.Lost, Evidence(_links[rank]!, _signs[rank]));
    }

    private string Evidence(PeerLink link, Sign sign)
    {
        if (link.Violation is { } violation) return violation.Message;
        if (sign.Denied >= 0) return $"it lost rank {sign.Denied}, which lives on this machine: the network between them is cut";
        if (sign.IsClosed && link.Process is null) return link.LineFault ?? "its control connection closed without a goodbye";
        bool isGone = link.Process is { } handle && PollSet.IsReadable((int)handle.DangerousGetHandle(), LastBreathMs);
        string process = $"its process {Peers[link.Peer].ProcessId}";
        return (sign.IsClosed, isGone) switch
        {
            (true, true) => $"its control connection closed and {process} is gone",
            (true, false) => $"its control connection closed without a goodbye{(link.Process is null ? "" : $", though {process} has not ended")}",
            (false, true) => $"{process} is gone",
            _ when link.WasSeenEnding => $"{process} is ending",
            (false, false) => $"rank {sign.Reporter} reported it lost",
        };
    }

    private void StopWatching()
    {
        lock (_gate)
        {
            if (IsOver) return;
            _stopping = true;
            _wake.Set();
        }
        if (Thread.CurrentThread == _monitor) return; // a watcher disposes of us: the thread closes when it returns there
        _monitor.Join();
    }

    private void Close()
    {
        lock (_gate)
        {
            foreach (PeerLink link in _links.OfType<PeerLink>())
            {
                link.Notify(LinkFrameKind.Goodbye);
                link.Dispose();
            }
            _round?.Fail(new ObjectDisposedException(nameof(ExpertGroup)));
            _round = null;
            _succession?.TrySetException(new ObjectDisposedException(nameof(ExpertGroup)));
            _wake.Dispose();
        }
    }
}

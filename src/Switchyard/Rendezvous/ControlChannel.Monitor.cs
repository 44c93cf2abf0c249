using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>The thread that receives, sends what did not go at once, and notices peers that leave or die.</summary>
internal sealed partial class ControlChannel
{
    /// <summary>A dying process closes its sockets shortly before it is gone; so long is waited to be able to say which it was.</summary>
    private const int LastBreathMs = 5;

    private readonly Thread _monitor;
    private readonly WakeEvent _wake = new();
    private readonly PollSet _poll = new();
    private readonly byte[] _buffer = new byte[LinkFrame.MaxBytes];
    private volatile int _firstLost = -1;
    private volatile bool _stopping;

    private void Watch()
    {
        while (!_stopping)
        {
            Await();
            var lost = new List<(int Rank, int Reporter)>();
            lock (_gate) Exchange(lost);
            // Not under the lock: watchers are told.
            foreach ((int rank, int reporter) in lost) Lose(rank, reporter);
            ReportEnded();
            lock (_gate) Settle();
        }
        Close();
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
                _poll.Add(link.Socket.Descriptor, (short)(Libc.POLLIN | (link.IsSending ? Libc.POLLOUT : 0)));
                if (link.Process is { } process) processes.Add((link, _poll.Add((int)process.DangerousGetHandle(), Libc.POLLIN)));
            }
        }
        _poll.Wait(-1);
        if (_poll.IsReady(0)) _wake.Reset();
        // Seen before the links are read: what such a process had sent is then all there to be read.
        foreach ((PeerLink link, int index) in processes) link.IsProcessGone = _poll.IsReady(index);
    }

    private IEnumerable<PeerLink> Live() => _links.OfType<PeerLink>().Where(link => StateOf(link.Peer) == PeerState.Alive);

    /// <summary>Receives and sends what is possible now; collects the losses that peers report, in the order they came.</summary>
    private void Exchange(List<(int Rank, int Reporter)> lost)
    {
        foreach (PeerLink link in Live())
        {
            link.Pump();
            Read(link, lost);
        }
    }

    private void Read(PeerLink link, List<(int Rank, int Reporter)> lost)
    {
        var named = new List<int>();
        link.Receive(_buffer, named);
        foreach (int rank in named) lost.Add((rank, link.Peer));
    }

    /// <summary>Reports the peers whose links have ended or whose processes are gone; those that said goodbye have left.</summary>
    private void ReportEnded()
    {
        foreach (PeerLink link in Live())
        {
            if (link.SaidGoodbye && link.Violation is null) Leave(link);
            else if (link.HasEnded || (link.IsProcessGone && link.IsDrained)) Lose(link.Peer, reporter: -1);
        }
    }

    private void Leave(PeerLink link)
    {
        lock (_gate) link.End();
        ReportGone(link.Peer, PeerState.Left, "it left the group");
    }

    /// <summary>
    /// Records a loss and tells all peers, before anything of this rank can fail because of it: so those who see this rank die of it
    /// know what came first.
    /// </summary>
    private void Lose(int rank, int reporter)
    {
        if (rank >= Size || _links[rank] is not { } link || StateOf(rank) != PeerState.Alive) return;
        if (reporter >= 0 && !IsBelievable(link)) return;
        if (_firstLost < 0) _firstLost = rank;
        bool isClosed = link.HasEnded;
        lock (_gate)
        {
            link.End();
            foreach (PeerLink other in Live()) other.Notify(LinkFrameKind.Lost, rank);
        }
        ReportGone(rank, PeerState.Lost, Evidence(link, isClosed, reporter));
    }

    /// <summary>What a peer reports of another is held against our own link to it, which may hold its goodbye, or what it died of.</summary>
    private bool IsBelievable(PeerLink link)
    {
        var earlier = new List<(int Rank, int Reporter)>();
        lock (_gate) Read(link, earlier);
        foreach ((int rank, int reporter) in earlier) Lose(rank, reporter);
        return !link.SaidGoodbye && StateOf(link.Peer) == PeerState.Alive;
    }

    private string Evidence(PeerLink link, bool isClosed, int reporter)
    {
        if (link.Violation is { } violation) return violation.Message;
        bool isGone = link.Process is { } handle && PollSet.IsReadable((int)handle.DangerousGetHandle(), LastBreathMs);
        string process = $"its process {Peers[link.Peer].ProcessId}";
        return (isClosed, isGone) switch
        {
            (true, true) => $"its control connection closed and {process} is gone",
            (true, false) => $"its control connection closed without a goodbye, though {process} has not ended",
            (false, true) => $"{process} is gone",
            (false, false) => $"rank {reporter} reported it lost",
        };
    }

    private void StopWatching()
    {
        lock (_gate)
        {
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
                link.Notify(LinkFrameKind.Goodbye, 0);
                link.Dispose();
            }
            _round?.Fail(new ObjectDisposedException(nameof(ExpertGroup)));
            _round = null;
            _wake.Dispose();
        }
    }
}

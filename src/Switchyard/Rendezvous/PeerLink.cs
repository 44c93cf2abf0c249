using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>The connection to one peer in a formed group: what is still to be sent, what has come. Guarded by the channel's lock.</summary>
internal sealed class PeerLink(int peer, RankSet group, long generation, PeerTie tie) : IDisposable
{
    private const int MaxChunksAtATime = 16;

    /// <summary>A peer can be one all-gather ahead of this rank, never two: for the next it needs what this rank gives to the last.</summary>
    private const int MaxReady = 2;

    private readonly Queue<Outgoing> _outgoing = [];
    private readonly List<SafeFileHandle> _descriptors = [];
    private Contribution? _arriving;
    private long _nextSequence;
    private bool _isDrained;

    public int Peer { get; } = peer;

    public PacketSocket Socket => tie.Socket;

    public SafeFileHandle? Process => tie.Process;

    /// <summary>What went wrong between the machines, if that is how the connection ended.</summary>
    public string? LineFault => tie.Relay?.Fault;

    /// <inheritdoc cref="PeerTie.IsProcessEnding"/>
    public bool IsProcessEnding => tie.IsProcessEnding;

    /// <summary>Somebody has seen that it is.</summary>
    public bool WasSeenEnding { get; set; }

    /// <summary>Contributions that are whole, one an all-gather.</summary>
    public Queue<Contribution> Ready { get; } = [];

    public bool IsSending => _outgoing.Count > 0;

    public bool SaidGoodbye { get; private set; }

    /// <summary>Nothing more will come: the peer closed, or broke the protocol.</summary>
    public bool HasEnded { get; private set; }

    /// <summary>All that had come for this membership was read, the last time.</summary>
    public bool IsDrained => _isDrained || HasCommitted;

    /// <summary>The kernel says that the peer's process has ended.</summary>
    public bool IsProcessGone { get; set; }

    /// <summary>The peer has gone on to the next membership: what follows is for that.</summary>
    public bool HasCommitted { get; private set; }

    /// <summary>What the peer did wrong, if that is what ended the link.</summary>
    public ProtocolException? Violation { get; private set; }

    public void Enqueue(Outgoing contribution)
    {
        if (HasEnded) return;
        contribution.Hold();
        _outgoing.Enqueue(contribution);
    }

    /// <summary>Sends what the socket takes now.</summary>
    public void Pump()
    {
        for (int i = 0; i < MaxChunksAtATime && _outgoing.TryPeek(out Outgoing? next); i++)
        {
            SendResult result = next.SendChunk(Socket, generation);
            if (result == SendResult.Full) return;
            if (result == SendResult.Sent && !next.IsSent) continue;
            _outgoing.Dequeue().Release();
            if (result == SendResult.Closed) DropOutgoing(); // what it had sent before is still to be read
        }
    }

    /// <summary>Tells the peer in one frame, for which a full socket is given more room.</summary>
    public void Notify(LinkFrameKind kind, RankSet ranks = default)
    {
        if (HasEnded) return;
        Span<byte> head = stackalloc byte[LinkFrame.HeadBytes];
        new LinkFrame(kind, generation, (long)ranks.Bits).Write(head);
        if (Socket.Send(head) != SendResult.Full) return;
        Socket.MakeRoom();
        Socket.Send(head);
    }

    /// <summary>Reads some of what has come; adds what the peer tells of ranks.</summary>
    public void Receive(Span<byte> buffer, List<RankNews> news)
    {
        _isDrained = false;
        for (int i = 0; i < MaxChunksAtATime && !HasEnded && !IsDrained; i++)
        {
            int length = Socket.Receive(buffer, _descriptors);
            if (length < 0) _isDrained = true;
            else if (length == 0) End();
            else Take(length <= buffer.Length ? buffer[..length] : [], news);
        }
    }

    /// <summary>Ends the link for what the peer did.</summary>
    public void Break(ProtocolException violation)
    {
        Violation = violation;
        End();
    }

    /// <summary>Gives up what is unfinished in both directions; contributions that are whole stay.</summary>
    public void End()
    {
        HasEnded = true;
        DropOutgoing();
        DropDescriptors();
        _arriving?.Dispose();
        _arriving = null;
    }

    /// <summary>Gives up the link but not what it is made of, for the next membership.</summary>
    public PeerTie Detach()
    {
        End();
        DropReady();
        return tie;
    }

    public void Dispose()
    {
        End();
        DropReady();
        tie.Dispose();
    }

    private void Take(ReadOnlySpan<byte> packet, List<RankNews> news)
    {
        try
        {
            LinkFrame frame = LinkFrame.Parse(packet)
                ?? throw new ProtocolException(Peer, $"it sent {packet.Length} bytes that are no frame");
            if (frame.Generation > generation || frame.Generation < 0)
                throw new ProtocolException(Peer, $"it sent a frame of membership {frame.Generation}; this one is {generation}");
            if (frame.Generation == generation) Take(frame, packet[LinkFrame.HeadBytes..], news);
            else TakeBelated(frame, news);
            if (_descriptors.Count > 0) throw new ProtocolException(Peer, $"it sent a descriptor with a frame of kind {frame.Kind}");
        }
        catch (ProtocolException e)
        {
            Break(e);
        }
    }

    private void Take(LinkFrame frame, ReadOnlySpan<byte> chunk, List<RankNews> news)
    {
        switch (frame.Kind)
        {
            case LinkFrameKind.Chunk:
                TakeChunk(frame, chunk);
                break;
            case LinkFrameKind.Goodbye:
                SaidGoodbye = true;
                break;
            case >= LinkFrameKind.Lost and <= LinkFrameKind.Fenced when !frame.Ranks.Contains(Peer) && frame.Ranks.Without(group).IsEmpty:
                news.Add(new RankNews(frame.Kind, Peer, frame.Ranks));
                HasCommitted = frame.Kind == LinkFrameKind.Commit;
                break;
            default:
                throw new ProtocolException(Peer, $"it sent a frame of kind {(int)frame.Kind}");
        }
    }

    /// <summary>
    /// What a peer sent before it, too, went on to this membership: nothing of it matters any more, unless it left instead; or went on to
    /// another one that is without this rank, which then is in the wrong one.
    /// </summary>
    private void TakeBelated(LinkFrame frame, List<RankNews> news)
    {
        SaidGoodbye |= frame.Kind == LinkFrameKind.Goodbye;
        if (frame.Kind == LinkFrameKind.Fenced && frame.Generation == generation - 1) news.Add(new RankNews(frame.Kind, Peer, default));
        DropDescriptors();
    }

    private void TakeChunk(LinkFrame frame, ReadOnlySpan<byte> chunk)
    {
        if (frame.Sequence != _nextSequence || Ready.Count >= MaxReady || SaidGoodbye)
            throw new ProtocolException(Peer, $"it gave to all-gather {frame.Sequence}; due was {_nextSequence}, {Ready.Count} wait");
        _arriving ??= Contribution.Begin(Peer, frame, _descriptors);
        _arriving.Add(Peer, frame, chunk);
        if (!_arriving.IsWhole) return;
        Ready.Enqueue(_arriving);
        _arriving = null;
        _nextSequence++;
    }

    private void DropDescriptors()
    {
        foreach (SafeFileHandle descriptor in _descriptors) descriptor.Dispose();
        _descriptors.Clear();
    }

    private void DropReady()
    {
        while (Ready.TryDequeue(out Contribution? unread)) unread.Dispose();
    }

    private void DropOutgoing()
    {
        while (_outgoing.TryDequeue(out Outgoing? unsent)) unsent.Release();
    }
}

/// <summary>What a peer tells of ranks.</summary>
internal readonly record struct RankNews(LinkFrameKind Kind, int Peer, RankSet Ranks);

/// <summary>What this rank gives to an all-gather, on its way to one peer.</summary>
internal sealed class Outgoing(byte[] payload, long sequence, SafeFileHandle? arena, long arenaBytes)
{
    private int _sent;
    private bool _held;

    public bool IsSent { get; private set; }

    /// <summary>Keeps the arena's descriptor open until it is sent.</summary>
    public void Hold() => arena?.DangerousAddRef(ref _held);

    public void Release()
    {
        if (_held) arena!.DangerousRelease();
        _held = false;
    }

    public SendResult SendChunk(PacketSocket socket, long generation)
    {
        ReadOnlySpan<byte> chunk = payload.AsSpan(_sent, Math.Min(payload.Length - _sent, LinkFrame.MaxChunkBytes));
        Span<byte> head = stackalloc byte[LinkFrame.HeadBytes];
        new LinkFrame(LinkFrameKind.Chunk, generation, sequence, payload.Length, _sent, arenaBytes).Write(head);
        bool isFirst = _sent == 0;
        ReadOnlySpan<int> descriptors = isFirst && arena is not null ? [(int)arena.DangerousGetHandle()] : [];
        SendResult result = socket.Send(head, chunk, descriptors);
        if (result == SendResult.Sent)
        {
            _sent += chunk.Length;
            IsSent = _sent == payload.Length;
        }
        return result;
    }
}

using System.Collections.Concurrent;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous.Network;

/// <summary>
/// Where ranks knock, from this machine or others: one thread that asks each connection for its proof of a key. What becomes of those
/// that have it is the deriving class's to say, on that thread. All are served side by side, so that none delays another.
/// </summary>
internal abstract class Gate : IDisposable
{
    /// <summary>Beyond this many connections without a proof, the oldest goes: a genuine one is done within a millisecond.</summary>
    public const int MaxUnproved = 128;

    private const int HandshakeMs = 2000;
    private const int Listener = 1; // in the poll set, if there is one
    private readonly JobToken _key;
    private readonly PacketSocket? _listener;
    private readonly WakeEvent _wake = new();
    private readonly Thread _thread;
    private readonly List<JoinConnection> _connections = [];
    private readonly ConcurrentQueue<StreamRelay> _arrived = new();
    private readonly PollSet _poll = new();
    private readonly byte[] _buffer = new byte[StreamRelay.MaxUnprovedBytes];
    private int _polled;
    private volatile bool _stopping;
    private int _disposed;

    protected Gate(string name, JobToken key, PacketSocket? listener)
    {
        _key = key;
        _listener = listener;
        _thread = new Thread(Serve) { IsBackground = true, Name = name };
    }

    private int First => _listener is null ? Listener : Listener + 1;

    public void Start() => _thread.Start();

    /// <summary>Takes a connection from another machine.</summary>
    public void Welcome(StreamRelay relay)
    {
        _arrived.Enqueue(relay);
        Wake();
    }

    public virtual void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return;
        _stopping = true;
        Wake();
        if (_thread.ThreadState.HasFlag(ThreadState.Unstarted)) Close();
        else _thread.Join();
        _wake.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Judges a connection that has the key. True: it stays, or was taken out with <see cref="Detach"/>. False: it is closed.</summary>
    protected abstract bool Admit(JoinConnection connection);

    /// <summary>Takes what an admitted connection sent; false ends it.</summary>
    protected abstract bool Take(JoinConnection connection, ReadOnlySpan<byte> frame);

    /// <summary>An admitted connection has ended.</summary>
    protected abstract void OnEnded(JoinConnection connection);

    /// <summary>Goes on with what other threads asked for.</summary>
    protected virtual void Advance()
    {
    }

    /// <summary>The last that the thread does.</summary>
    protected virtual void OnClosing()
    {
    }

    protected void Wake() => _wake.Set();

    /// <summary>Takes a connection out: from now on it is the caller's.</summary>
    protected void Detach(JoinConnection connection) => _connections.Remove(connection);

    private void Serve()
    {
        while (!_stopping)
        {
            Await();
            AcceptAll();
            ServeReady();
            DropExpired();
            Advance();
        }
        Close();
    }

    private void Close()
    {
        OnClosing();
        foreach (JoinConnection connection in _connections) connection.Dispose();
        while (_arrived.TryDequeue(out StreamRelay? relay)) relay.Dispose();
    }

    private void Await()
    {
        _poll.Clear();
        _poll.Add(_wake.Descriptor, Libc.POLLIN);
        if (_listener is not null) _poll.Add(_listener.Descriptor, Libc.POLLIN);
        foreach (JoinConnection connection in _connections) _poll.Add(connection.Socket.Descriptor, Libc.POLLIN);
        JoinConnection? oldest = _connections.FirstOrDefault(connection => connection.Step < JoinStep.Admitted);
        _poll.Wait(oldest is null ? -1 : (int)Math.Clamp(oldest.Deadline - Environment.TickCount64 + 1, 0, HandshakeMs));
        if (_poll.IsReady(0)) _wake.Reset();
    }

    /// <summary>New connections are appended, so those before them keep their index in the poll set.</summary>
    private void AcceptAll()
    {
        _polled = _connections.Count;
        long deadline = Environment.TickCount64 + HandshakeMs;
        while (_connections.Count < _polled + MaxUnproved && _arrived.TryDequeue(out StreamRelay? relay))
            _connections.Add(new JoinConnection(relay.Near, 0, deadline) { Relay = relay });
        if (!_arrived.IsEmpty) Wake();
        if (_listener is not null) AcceptLocal(_listener, deadline);
    }

    private void AcceptLocal(PacketSocket listener, long deadline)
    {
        int before = _connections.Count;
        while (_connections.Count < before + MaxUnproved && listener.TryAccept() is { } socket)
        {
            Ucred peer = socket.PeerCredentials();
            if (peer.UserId == Libc.geteuid()) _connections.Add(new JoinConnection(socket, peer.ProcessId, deadline) { Process = socket.OpenPeerProcess() });
            else socket.Dispose();
        }
        bool couldNot = _poll.IsReady(Listener) && _connections.Count == before;
        if (couldNot) Thread.Sleep(5); // out of descriptors, most likely: poll would not wait
    }

    private void ServeReady()
    {
        JoinConnection[] polled = [.. _connections.Take(_polled)];
        for (int i = 0; i < polled.Length; i++)
        {
            if (_poll.IsReady(First + i)) ServeOne(polled[i]);
        }
    }

    private void ServeOne(JoinConnection connection)
    {
        var descriptors = new List<SafeFileHandle>();
        int length = connection.Socket.Receive(_buffer, descriptors);
        foreach (SafeFileHandle unasked in descriptors) unasked.Dispose();
        if (length < 0) return;
        if (length == 0 || length > _buffer.Length || !TakeFrame(connection, _buffer.AsSpan(0, length))) Drop(connection);
    }

    private bool TakeFrame(JoinConnection connection, ReadOnlySpan<byte> frame)
    {
        if (connection.Step == JoinStep.Admitted) return Take(connection, frame);
        if (!connection.Take(frame, _key)) return false;
        if (connection.Step != JoinStep.Proved) return true;
        connection.Relay?.Trust();
        connection.Step = JoinStep.Admitted;
        return Admit(connection);
    }

    private void DropExpired()
    {
        long now = Environment.TickCount64;
        int unproved = _connections.Count(connection => connection.Step < JoinStep.Admitted);
        foreach (JoinConnection connection in _connections.Where(c => c.Step < JoinStep.Admitted).ToArray())
        {
            if (now < connection.Deadline && unproved <= MaxUnproved) break; // the oldest come first
            Drop(connection);
            unproved--;
        }
    }

    private void Drop(JoinConnection connection)
    {
        _connections.Remove(connection);
        if (connection.Step == JoinStep.Admitted) OnEnded(connection);
        connection.Dispose();
    }
}

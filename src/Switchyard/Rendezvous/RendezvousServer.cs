using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>
/// Rank 0's side of the joining: one thread that admits ranks, forms the group when all are there, and then turns away latecomers
/// until it is disposed. All connections are served side by side, so that none delays another.
/// </summary>
internal sealed class RendezvousServer : IDisposable
{
    /// <summary>Beyond this many connections without a proof, the oldest goes: a genuine one is done within a millisecond.</summary>
    public const int MaxUnproved = 128;

    private const int HandshakeMs = 2000;
    private const int Backlog = 512;
    private const int Listener = 1; // in the poll set
    private const int FirstConnection = 2;
    private const int LockPatienceMs = 300; // a rank 0 that was just killed may still be on its way out

    private readonly ExpertGroupOptions _options;
    private readonly long _generation;
    private readonly JobToken _token;
    private readonly MeetingPlace _place;
    private readonly SafeFileHandle _lock;
    private readonly PacketSocket _listener;
    private readonly WakeEvent _wake = new();
    private readonly Thread _thread;
    private readonly List<JoinConnection> _connections = [];
    private readonly JoinConnection?[] _ranks;
    private readonly PollSet _poll = new();
    private readonly byte[] _buffer = new byte[JoinFrames.MaxBytes];
    private readonly long _deadline;
    private readonly TaskCompletionSource<Membership> _joined = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _polled;
    private Membership? _membership;
    private volatile bool _stopping;
    private int _disposed;

    private RendezvousServer(ExpertGroupOptions options, long generation, MeetingPlace place, SafeFileHandle jobLock, JobToken token)
    {
        _options = options;
        _generation = generation;
        _place = place;
        _lock = jobLock;
        _token = token;
        _ranks = new JoinConnection?[options.Size];
        _deadline = Environment.TickCount64 + (long)options.JoinTimeout.TotalMilliseconds;
        File.Delete(place.SocketPath); // whoever made it is dead, or we would not have the lock
        _listener = PacketSocket.Listen(place.SocketPath, Backlog);
        _thread = new Thread(Serve) { IsBackground = true, Name = $"Switchyard rendezvous {options.Job}" };
    }

    /// <summary>Completes when all ranks have confirmed the membership; the result is the caller's to dispose.</summary>
    public Task<Membership> Joined => _joined.Task;

    public static async Task<RendezvousServer> StartAsync(ExpertGroupOptions options, long generation, CancellationToken ct)
    {
        MeetingPlace place = MeetingPlace.Open(options);
        SafeFileHandle jobLock = await LockAsync(place, options, ct).ConfigureAwait(false);
        try
        {
            // The token is in place before anyone can connect, so that a rank that connects never reads an earlier run's.
            JobToken token = options.TokenFile is { } path ? JobToken.Read(path) : JobToken.Create(place.TokenPath);
            var server = new RendezvousServer(options, generation, place, jobLock, token);
            server._thread.Start();
            return server;
        }
        catch
        {
            jobLock.Dispose();
            throw;
        }
    }

    /// <summary>Gives up joining; <see cref="Joined"/> fails soon. Does not wait.</summary>
    public void Cancel()
    {
        _stopping = true;
        _wake.Set();
    }

    /// <summary>Ends the thread, removes the job's files and lets go of its lock.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return;
        Cancel();
        _thread.Join();
        foreach (JoinConnection connection in _connections) connection.Dispose();
        File.Delete(_place.SocketPath);
        if (_options.TokenFile is null) File.Delete(_place.TokenPath);
        File.Delete(_place.LockPath);
        _listener.Dispose();
        _wake.Dispose();
        _lock.Dispose();
    }

    private static async Task<SafeFileHandle> LockAsync(MeetingPlace place, ExpertGroupOptions options, CancellationToken ct)
    {
        long deadline = Environment.TickCount64 + LockPatienceMs;
        while (true)
        {
            if (place.TryLock() is { } taken) return taken;
            if (Environment.TickCount64 >= deadline)
                throw new JoinException($"Job '{options.Job}' is already running: choose another SWITCHYARD_JOB (ExpertGroupOptions.Job).");
            await Task.Delay(10, ct).ConfigureAwait(false);
        }
    }

    private void Serve()
    {
        while (!_stopping)
        {
            try
            {
                FormWhenGathered();
            }
            catch (TransportException e)
            {
                Fail(new Refusal(RefusalReason.Cancelled), e);
            }
            Await();
            AcceptAll();
            ServeReady();
            DropExpired();
        }
        Fail(new Refusal(RefusalReason.Cancelled), new OperationCanceledException("The join was cancelled."));
    }

    private void Await()
    {
        _poll.Clear();
        _poll.Add(_wake.Descriptor, Libc.POLLIN);
        _poll.Add(_listener.Descriptor, Libc.POLLIN);
        foreach (JoinConnection connection in _connections) _poll.Add(connection.Socket.Descriptor, Libc.POLLIN);
        _poll.Wait(TimeoutMs());
    }

    private int TimeoutMs()
    {
        long next = _joined.Task.IsCompleted ? long.MaxValue : _deadline;
        foreach (JoinConnection connection in _connections)
        {
            if (connection.Step < JoinStep.Admitted) next = Math.Min(next, connection.Deadline);
        }
        return next == long.MaxValue ? -1 : (int)Math.Clamp(next - Environment.TickCount64 + 1, 0, int.MaxValue);
    }

    /// <summary>New connections are appended, so those before them keep their index in the poll set.</summary>
    private void AcceptAll()
    {
        _polled = _connections.Count;
        while (_listener.TryAccept() is { } socket)
        {
            Ucred peer = socket.PeerCredentials();
            if (peer.UserId == Libc.geteuid())
                _connections.Add(new JoinConnection(socket, peer.ProcessId, Environment.TickCount64 + HandshakeMs) { Process = socket.OpenPeerProcess() });
            else
                socket.Dispose();
            if (_connections.Count >= _polled + MaxUnproved) break;
        }
        bool couldNot = _poll.IsReady(Listener) && _connections.Count == _polled;
        if (couldNot) Thread.Sleep(5); // out of descriptors, most likely: poll would not wait
    }

    private void ServeReady()
    {
        JoinConnection[] polled = [.. _connections.Take(_polled)];
        for (int i = 0; i < polled.Length; i++)
        {
            if (_poll.IsReady(FirstConnection + i)) ServeOne(polled[i]);
        }
    }

    private void ServeOne(JoinConnection connection)
    {
        var descriptors = new List<SafeFileHandle>();
        int length = connection.Socket.Receive(_buffer, descriptors);
        foreach (SafeFileHandle unasked in descriptors) unasked.Dispose();
        if (length < 0) return;
        bool goesOn = length > 0 && length <= _buffer.Length && connection.Take(_buffer.AsSpan(0, length), _token);
        if (goesOn && connection.Step == JoinStep.Proved) goesOn = Admit(connection);
        if (!goesOn) Drop(connection);
    }

    private bool Admit(JoinConnection connection)
    {
        Hello hello = connection.Hello;
        Refusal? refusal = Judge(hello);
        if (refusal is { } reason)
        {
            connection.Refuse(reason);
            return false;
        }
        connection.Step = JoinStep.Admitted;
        _ranks[hello.Rank] = connection;
        byte[] present = JoinFrames.New(JoinFrame.Present, JoinFrames.PresentBytes);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(present.AsSpan(8), ~Missing());
        foreach (JoinConnection? admitted in _ranks) admitted?.Socket.Send(present);
        return true;
    }

    private Refusal? Judge(Hello hello)
    {
        if (hello.Version != JoinFrames.Version) return new(RefusalReason.WrongVersion, JoinFrames.Version, hello.Version);
        if (hello.Job != _options.Job) return new(RefusalReason.WrongJob);
        if (hello.Size != _options.Size) return new(RefusalReason.WrongSize, _options.Size, hello.Size);
        if (hello.Rank >= _options.Size) return new(RefusalReason.RankOutOfRange, _options.Size, hello.Rank);
        if (hello.Generation != RendezvousClient.AnyGeneration && hello.Generation != _generation) return new(RefusalReason.WrongGeneration, _generation, hello.Generation);
        if (_membership is { } full) return new(RefusalReason.JobComplete, hello.Rank, full.Members[hello.Rank].ProcessId);
        if (hello.Rank == 0) return new(RefusalReason.RankTaken, 0, Environment.ProcessId);
        return _ranks[hello.Rank] is { } holder ? new(RefusalReason.RankTaken, hello.Rank, holder.ProcessId) : null;
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
        if (now >= _deadline && !_joined.Task.IsCompleted)
        {
            var refusal = new Refusal(RefusalReason.TimedOut, (long)Missing());
            Fail(refusal, refusal.ToException(_options));
        }
    }

    private void Drop(JoinConnection connection)
    {
        _connections.Remove(connection);
        int rank = Array.IndexOf(_ranks, connection);
        if (rank >= 0)
        {
            _ranks[rank] = null;
            if (_membership is not null && !_joined.Task.IsCompleted)
            {
                var lost = new Refusal(RefusalReason.RankLost, rank, connection.ProcessId);
                Fail(lost, lost.ToException(_options));
            }
        }
        connection.Dispose();
    }

    /// <summary>The ranks that are not there, a bit each. While the membership forms, those that have not confirmed it.</summary>
    private ulong Missing()
    {
        ulong missing = 0;
        for (int rank = 1; rank < _ranks.Length; rank++)
        {
            if (_ranks[rank] is null || (_membership is not null && _ranks[rank]!.Step != JoinStep.Ready)) missing |= 1ul << rank;
        }
        return missing;
    }

    private void FormWhenGathered()
    {
        if (_joined.Task.IsCompleted || Missing() != 0) return;
        if (_membership is null) Form();
        if (Missing() == 0 && !_joined.Task.IsCompleted) Commit();
    }

    /// <summary>Gives each pair of ranks a connection of its own, and each rank the list of all.</summary>
    private void Form()
    {
        Member[] members = [Member.Self, .. _ranks.Skip(1).Select(c => new Member(c!.Hello.Host, c.ProcessId, c.Hello.StartTime))];
        _membership = new Membership(0, _generation, members, new PeerTie?[members.Length]);
        byte[] frame = Membership.ToFrame(_generation, members);
        foreach (JoinConnection? member in _ranks) member?.Socket.Send(frame);
        using SafeFileHandle? self = JoinConnection.OpenProcess(Environment.ProcessId);
        for (int low = 0; low < _ranks.Length; low++)
        {
            for (int high = low + 1; high < _ranks.Length; high++) Tie(low, high, self);
        }
    }

    private void Tie(int low, int high, SafeFileHandle? self)
    {
        (PacketSocket one, PacketSocket other) = PacketSocket.CreatePair();
        SafeFileHandle? lowProcess = low == 0 ? self : _ranks[low]!.Process;
        SafeFileHandle? highProcess = _ranks[high]!.Process;
        SendTie(_ranks[high]!, low, other, lowProcess);
        other.Dispose();
        if (low == 0)
        {
            _membership!.Ties[high] = new PeerTie(one, _ranks[high]!.Socket.OpenPeerProcess());
            return;
        }
        SendTie(_ranks[low]!, high, one, highProcess);
        one.Dispose();
    }

    private void SendTie(JoinConnection to, int peer, PacketSocket end, SafeFileHandle? process)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Link, JoinFrames.LinkBytes);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(8), (ushort)peer);
        System.Buffers.Binary.BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(16), _generation);
        int[] descriptors = process is null ? [end.Descriptor] : [end.Descriptor, (int)process.DangerousGetHandle()];
        // Without its links it can never say Ready; a closed connection tells it, and us, at once.
        if (to.Socket.Send(frame, default, descriptors) != SendResult.Sent) to.Socket.Dispose();
    }

    private void Commit()
    {
        byte[] frame = JoinFrames.New(JoinFrame.Commit, JoinFrames.HeaderBytes);
        foreach (JoinConnection? member in _ranks) member?.Socket.Send(frame);
        foreach (JoinConnection member in _ranks.OfType<JoinConnection>().ToArray())
        {
            _connections.Remove(member);
            member.Dispose();
        }
        Array.Clear(_ranks);
        _joined.TrySetResult(_membership!);
    }

    private void Fail(Refusal refusal, Exception error)
    {
        if (_joined.Task.IsCompleted) return;
        foreach (JoinConnection? member in _ranks) member?.Refuse(refusal);
        _membership?.Dispose();
        _stopping = true;
        _joined.TrySetException(error);
    }
}

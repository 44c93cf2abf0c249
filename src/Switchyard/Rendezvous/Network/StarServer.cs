using System.Buffers.Binary;
using Switchyard.Rendezvous.Bootstrap;

namespace Switchyard.Rendezvous.Network;

/// <summary>Rank 0's side of an all-gather over TCP: lets in one connection a rank, and gives each what all gave, round after round.</summary>
internal sealed class StarServer : Gate
{
    private readonly ExpertGroupOptions _options;
    private readonly TcpDoor _door;
    private readonly Lock _lock = new();
    private readonly JoinConnection?[] _ranks;
    private readonly int[] _processes;
    private readonly byte[]?[] _given;
    private TaskCompletionSource<byte[][]>? _result;
    private Refusal? _failure;
    private int _round;
    private bool _isComplete;

    private StarServer(ExpertGroupOptions options, JobToken key, TcpDoor door)
        : base($"Switchyard star {options.Job}", key, listener: null)
    {
        _options = options;
        _door = door;
        _ranks = new JoinConnection?[options.Size];
        _processes = new int[options.Size];
        _processes[0] = Environment.ProcessId;
        _given = new byte[]?[options.Size];
    }

    public static StarServer Start(ExpertGroupOptions options, JobToken key, TcpDoor door)
    {
        var server = new StarServer(options, key, door);
        server.Start();
        door.OpenTo(server);
        return server;
    }

    /// <summary>The ranks that are not there, a bit each; once all were, those that have not given to this round.</summary>
    public ulong Missing
    {
        get
        {
            lock (_lock)
            {
                ulong missing = 0;
                for (int rank = 1; rank < _ranks.Length; rank++)
                {
                    if (_given[rank] is null) missing |= 1ul << rank;
                }
                return missing;
            }
        }
    }

    /// <summary>Gives this rank's bytes; returns when all ranks' are there.</summary>
    public Task<byte[][]> GatherAsync(ReadOnlyMemory<byte> mine, CancellationToken ct)
    {
        lock (_lock)
        {
            if (_failure is { } failure) return Task.FromException<byte[][]>(failure.ToException(_options));
            _result = new TaskCompletionSource<byte[][]>(TaskCreationOptions.RunContinuationsAsynchronously);
            _given[0] = mine.ToArray();
            Wake();
            return _result.Task.WaitAsync(ct);
        }
    }

    /// <summary>Tells all ranks that the join has failed, and why.</summary>
    public void Fail(Refusal why)
    {
        lock (_lock)
        {
            if (_isComplete) return;
            _failure ??= why;
            foreach (JoinConnection? connection in _ranks) connection?.Refuse(_failure.Value);
            _result?.TrySetException(_failure.Value.ToException(_options));
        }
    }

    public override void Dispose()
    {
        _door.Dispose(); // first, for nothing may come any more
        base.Dispose();
    }

    protected override bool Admit(JoinConnection connection)
    {
        lock (_lock)
        {
            Refusal? refusal = _failure ?? Judge(connection.Hello);
            if (refusal is { } reason)
            {
                connection.Refuse(reason);
                return false;
            }
            _ranks[connection.Hello.Rank] = connection;
            _processes[connection.Hello.Rank] = connection.Hello.ProcessId;
            byte[] present = JoinFrames.New(JoinFrame.Present, JoinFrames.PresentBytes);
            BinaryPrimitives.WriteUInt64LittleEndian(present.AsSpan(8), Present());
            foreach (JoinConnection? admitted in _ranks) admitted?.Socket.Send(present);
            return true;
        }
    }

    protected override bool Take(JoinConnection connection, ReadOnlySpan<byte> frame)
    {
        lock (_lock)
        {
            int rank = connection.Hello.Rank;
            if (_given[rank] is not null || Star.ParseGive(frame, _round) is not { } given) return false;
            _given[rank] = given;
            return true;
        }
    }

    protected override void Advance()
    {
        lock (_lock)
        {
            if (_result is null || _failure is not null || _given.Any(given => given is null)) return;
            byte[] frame = Star.Gathered(_round, _given);
            foreach (JoinConnection? connection in _ranks) connection?.Socket.Send(frame);
            byte[][] all = [.. _given.Select(given => given!)];
            Array.Clear(_given);
            _isComplete = ++_round == BootstrapJoin.Rounds;
            _result.TrySetResult(all);
            _result = null;
        }
    }

    /// <summary>Before the first round is over a rank that goes only frees its place; afterwards the others rest on it.</summary>
    protected override void OnEnded(JoinConnection connection)
    {
        lock (_lock)
        {
            int rank = connection.Hello.Rank;
            if (_ranks[rank] != connection) return;
            _ranks[rank] = null;
            if (_round == 0) _given[rank] = null;
            else Fail(new Refusal(RefusalReason.RankLost, rank, _processes[rank]));
        }
    }

    private ulong Present()
    {
        ulong present = 1;
        for (int rank = 1; rank < _ranks.Length; rank++) present |= _ranks[rank] is null ? 0 : 1ul << rank;
        return present;
    }

    private Refusal? Judge(Hello hello)
    {
        if (hello.Version != JoinFrames.Version) return new(RefusalReason.WrongVersion, JoinFrames.Version, hello.Version);
        if (hello.Job != _options.Job) return new(RefusalReason.WrongJob);
        if (hello.Size != _options.Size) return new(RefusalReason.WrongSize, _options.Size, hello.Size);
        if (hello.Rank >= _options.Size) return new(RefusalReason.RankOutOfRange, _options.Size, hello.Rank);
        if (hello.Generation != ControlChannel.FirstGeneration)
            return new(RefusalReason.WrongGeneration, ControlChannel.FirstGeneration, hello.Generation);
        if (_isComplete) return new(RefusalReason.JobComplete, hello.Rank, _processes[hello.Rank]);
        bool isTaken = hello.Rank == 0 || _ranks[hello.Rank] is not null;
        return isTaken ? new(RefusalReason.RankTaken, hello.Rank, _processes[hello.Rank]) : null;
    }
}

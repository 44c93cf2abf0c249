using Switchyard.Transports;

namespace Switchyard.Rendezvous;

/// <summary>The control plane of ranks in one process: a shared board of contributions, one round after another.</summary>
internal sealed class LocalChannel : GroupChannel
{
    private readonly Board _board;
    private int _disposed;
    private int _driver;

    private LocalChannel(int rank, PeerInfo[] peers, Board board)
        : base(rank, peers, generation: 1) => _board = board;

    public static LocalChannel[] CreateAll(int size)
    {
        PeerInfo[] peers = [.. Enumerable.Range(0, size).Select(r => new PeerInfo(r, Environment.MachineName, Environment.ProcessId))];
        var board = new Board(size);
        var channels = new LocalChannel[size];
        for (int rank = 0; rank < size; rank++) channels[rank] = new LocalChannel(rank, peers, board);
        board.Members = channels;
        return channels;
    }

    protected override Task<Gathered[]> GatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        ct.ThrowIfCancellationRequested();
        return _board.Contribute(this, payload.ToArray(), arena?.InProcess).WaitAsync(ct);
    }

    protected override (int Peer, long Call) FirstAbsent() => _board.FirstAbsent(Rank);

    public override bool HasNoThreadOfItsOwn(int rank)
    {
        int driver = _board.Members[rank]._driver;
        return driver == 0 || driver == Environment.CurrentManagedThreadId;
    }

    public override void NoteDriver() => _driver = Environment.CurrentManagedThreadId;

    public override void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0) _board.Leave(Rank);
    }

    private PeerLostException Gone(int rank) =>
        new(Peers[rank], CauseOf(rank), new CallSite(Operation.None, CallPhase.Create, 0));

    /// <summary>One round of an all-gather; complete when all ranks have contributed.</summary>
    private sealed class Round(int size)
    {
        public readonly byte[]?[] Payloads = new byte[size][];
        public readonly ArenaMemory?[] Arenas = new ArenaMemory[size];
        public readonly TaskCompletionSource<Gathered[]>?[] Waiters = new TaskCompletionSource<Gathered[]>[size];
        public int Count;
    }

    private sealed class Board(int size)
    {
        private readonly Lock _gate = new();
        private readonly long[] _next = new long[size];
        private readonly bool[] _left = new bool[size];
        private readonly Dictionary<long, Round> _open = [];

        public LocalChannel[] Members { get; set; } = [];

        public Task<Gathered[]> Contribute(LocalChannel member, byte[] payload, ArenaMemory? arena)
        {
            lock (_gate)
            {
                long number = _next[member.Rank]++;
                if (!_open.TryGetValue(number, out Round? round)) _open[number] = round = new Round(size);
                var waiter = new TaskCompletionSource<Gathered[]>(TaskCreationOptions.RunContinuationsAsynchronously);
                round.Payloads[member.Rank] = payload;
                round.Arenas[member.Rank] = arena;
                round.Waiters[member.Rank] = waiter;
                if (++round.Count == size)
                {
                    _open.Remove(number);
                    foreach (TaskCompletionSource<Gathered[]>? each in round.Waiters) each!.SetResult(Copy(round));
                }
                else
                {
                    FailIfSomeoneLeft(round, member);
                }
                return waiter.Task;
            }
        }

        /// <summary>Who is missing from the last round that a rank has joined.</summary>
        public (int Peer, long Call) FirstAbsent(int rank)
        {
            lock (_gate)
            {
                long number = _next[rank] - 1;
                int absent = _open.TryGetValue(number, out Round? round) ? Array.FindIndex(round.Payloads, payload => payload is null) : rank;
                return (absent, number + 1);
            }
        }

        public void Leave(int rank)
        {
            lock (_gate)
            {
                _left[rank] = true;
                foreach (LocalChannel member in Members) member.ReportGone(rank, PeerState.Left, "it left the group");
                foreach (Round round in _open.Values)
                {
                    if (round.Payloads[rank] is not null) continue;
                    foreach (LocalChannel member in Members) round.Waiters[member.Rank]?.TrySetException(member.Gone(rank));
                }
            }
        }

        private void FailIfSomeoneLeft(Round round, LocalChannel member)
        {
            int absent = Enumerable.Range(0, size).FirstOrDefault(rank => _left[rank] && round.Payloads[rank] is null, -1);
            if (absent >= 0) round.Waiters[member.Rank]!.TrySetException(member.Gone(absent));
        }

        /// <summary>Each rank gets arrays and references of its own, since each may change or dispose them.</summary>
        private static Gathered[] Copy(Round round) => [.. Enumerable.Range(0, round.Payloads.Length).Select(rank =>
            new Gathered([.. round.Payloads[rank]!], round.Arenas[rank] is { } arena ? ArenaExport.Of(arena) : null))];
    }
}

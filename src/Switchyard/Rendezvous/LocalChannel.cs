using Switchyard.Transports;

namespace Switchyard.Rendezvous;

/// <summary>The control plane of ranks in one process: a shared board of contributions, one round after another.</summary>
internal sealed class LocalChannel : GroupChannel
{
    private static readonly CallSite _collective = new(Operation.None, CallPhase.Create, 0);
    private readonly Board _board;
    private int _disposed;
    private int _driver;

    private LocalChannel(int rank, PeerInfo[] peers, long generation, Board board)
        : base(rank, peers, generation) => _board = board;

    public static LocalChannel[] CreateAll(int size, long generation = 1)
    {
        PeerInfo[] peers = [.. Enumerable.Range(0, size).Select(r => new PeerInfo(r, Environment.MachineName, Environment.ProcessId))];
        var board = new Board(size);
        var channels = new LocalChannel[size];
        for (int rank = 0; rank < size; rank++) channels[rank] = new LocalChannel(rank, peers, generation, board);
        board.Members = channels;
        return channels;
    }

    protected override async Task<Gathered[]> GatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, typeof(ExpertGroup));
        ThrowIfOver(_collective);
        ct.ThrowIfCancellationRequested();
        TaskCompletionSource<Gathered[]> result = _board.Contribute(this, payload.ToArray(), arena?.InProcess);
        using CancellationTokenRegistration cancelling = ct.UnsafeRegister(_ => result.TrySetCanceled(ct), null);
        return await result.Task.ConfigureAwait(false);
    }

    public override Task<Succession> GrowAsync(int newcomers, CancellationToken ct) =>
        throw new InvalidOperationException("A group of one process has the ranks that ExpertGroup.CreateLocal made: make another of the size wanted.");

    protected override Task<Succession> SucceedAsync(RankSet evicted, CancellationToken ct)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, typeof(ExpertGroup));
        return _board.Vote(this, evicted).WaitAsync(ct);
    }

    protected override int FirstWithoutVote() => _board.FirstWithoutVote(Rank);

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

    private SwitchyardException Gone(int rank) => IsFenced ? new FencedException(Generation + 1, _collective) : new PeerLostException([Peers[rank]], CauseOf(rank), _collective);

    private void Fence()
    {
        NoteFence();
        for (int rank = 0; rank < Size; rank++)
        {
            if (rank != Rank) ReportGone(rank, PeerState.Lost, "it went on in a group without this rank");
        }
    }

    private void GoOn(Succession next)
    {
        NoteSuccessor(next);
        for (int rank = 0; rank < Size; rank++)
        {
            if (rank != Rank) ReportGone(rank, PeerState.Left, "the group was rebuilt");
        }
    }

    /// <summary>One round of an all-gather; complete when all ranks have contributed. It holds the arenas: a contributor may cancel and go.</summary>
    private sealed class Round(int size)
    {
        private readonly byte[]?[] _payloads = new byte[size][];
        private readonly ArenaMemory?[] _arenas = new ArenaMemory[size];
        private readonly TaskCompletionSource<Gathered[]>?[] _results = new TaskCompletionSource<Gathered[]>[size];

        public int FirstAbsent => Array.FindIndex(_payloads, payload => payload is null);

        public bool Has(int rank) => _payloads[rank] is not null;

        public TaskCompletionSource<Gathered[]> Add(int rank, byte[] payload, ArenaMemory? arena)
        {
            arena?.AddHolder();
            _payloads[rank] = payload;
            _arenas[rank] = arena;
            return _results[rank] = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        public void Complete()
        {
            foreach (TaskCompletionSource<Gathered[]>? result in _results)
            {
                Gathered[] all = Copy();
                if (result!.TrySetResult(all)) continue;
                foreach (Gathered each in all) each.Arena?.Dispose();
            }
            ReleaseArenas();
        }

        public void Fail(Func<int, Exception> errorOf)
        {
            for (int rank = 0; rank < _results.Length; rank++) _results[rank]?.TrySetException(errorOf(rank));
            ReleaseArenas();
        }

        /// <summary>Each rank gets arrays and references of its own, since each may change or dispose them.</summary>
        private Gathered[] Copy() => [.. _payloads.Select((payload, rank) =>
            new Gathered([.. payload!], _arenas[rank] is { } arena ? ArenaExport.Of(arena) : null))];

        private void ReleaseArenas()
        {
            foreach (ArenaMemory? arena in _arenas) arena?.Release();
            Array.Clear(_arenas);
        }
    }

    private sealed class Board(int size)
    {
        private readonly Lock _gate = new();
        private readonly long[] _next = new long[size];
        private readonly bool[] _left = new bool[size];
        private readonly Dictionary<long, Round> _open = [];
        private readonly TaskCompletionSource<Succession>?[] _votes = new TaskCompletionSource<Succession>?[size];
        private RankSet _out;

        public LocalChannel[] Members { get; set; } = [];

        public TaskCompletionSource<Gathered[]> Contribute(LocalChannel member, byte[] payload, ArenaMemory? arena)
        {
            lock (_gate)
            {
                long number = _next[member.Rank]++;
                if (!_open.TryGetValue(number, out Round? round)) _open[number] = round = new Round(size);
                TaskCompletionSource<Gathered[]> result = round.Add(member.Rank, payload, arena);
                if (round.FirstAbsent < 0)
                {
                    _open.Remove(number);
                    round.Complete();
                }
                else
                {
                    FailIfSomeoneLeft(round);
                }
                return result;
            }
        }

        /// <summary>Who is missing from the last round that a rank has joined.</summary>
        public (int Peer, long Call) FirstAbsent(int rank)
        {
            lock (_gate)
            {
                long number = _next[rank] - 1;
                int absent = _open.TryGetValue(number, out Round? round) ? round.FirstAbsent : rank;
                return (absent, number + 1);
            }
        }

        public void Leave(int rank)
        {
            lock (_gate)
            {
                _left[rank] = true;
                foreach (LocalChannel member in Members) member.ReportGone(rank, PeerState.Left, "it left the group");
                foreach (Round round in _open.Values) FailIfSomeoneLeft(round);
                _out = _out.With(rank);
                SucceedIfUnanimous();
            }
        }

        public Task<Succession> Vote(LocalChannel member, RankSet evicted)
        {
            lock (_gate)
            {
                if (member.UnheldSuccessor is { } next) return Task.FromResult(next);
                member.ThrowIfOver(new CallSite(Operation.None, CallPhase.Rebuild, 0));
                _out = _out.With(evicted);
                _votes[member.Rank] ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
                Task<Succession> result = _votes[member.Rank]!.Task;
                SucceedIfUnanimous();
                return result;
            }
        }

        public int FirstWithoutVote(int rank)
        {
            lock (_gate) return Remaining().Where(each => _votes[each] is null).DefaultIfEmpty(rank).First();
        }

        private RankSet Remaining() => RankSet.AllOf(size).Without(_out);

        private void SucceedIfUnanimous()
        {
            int[] former = [.. Remaining()];
            if (former.Length == 0 || former.Any(rank => _votes[rank] is null) || Members[former[0]].IsOver) return;
            LocalChannel[] next = CreateAll(former.Length, Members[0].Generation + 1);
            for (int rank = 0; rank < former.Length; rank++)
            {
                next[rank].Deadline = Members[former[rank]].Deadline;
                var succession = new Succession(next[rank], former);
                Members[former[rank]].GoOn(succession);
                _votes[former[rank]]!.SetResult(succession);
            }
            foreach (int rank in _out.Where(rank => !_left[rank]))
            {
                Members[rank].Fence();
                _votes[rank]?.TrySetException(new FencedException(Members[rank].Generation + 1, new CallSite(Operation.None, CallPhase.Rebuild, 0)));
            }
        }

        /// <summary>A round that lacks a rank that has left will never be complete.</summary>
        private void FailIfSomeoneLeft(Round round)
        {
            int absent = Enumerable.Range(0, size).FirstOrDefault(rank => _left[rank] && !round.Has(rank), -1);
            if (absent >= 0) round.Fail(rank => Members[rank].Gone(absent));
        }
    }
}

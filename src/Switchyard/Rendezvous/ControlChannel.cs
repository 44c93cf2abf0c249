using Switchyard.Transports;

namespace Switchyard.Rendezvous;

/// <summary>The control plane of ranks in processes of one machine: a connection to each peer, and a thread that watches all.</summary>
internal sealed partial class ControlChannel : GroupChannel
{
    /// <summary>The first membership of a job.</summary>
    public const long FirstGeneration = 1;

    private readonly Lock _gate = new();
    private readonly PeerLink?[] _links;
    private readonly ExpertGroupOptions _options;
    private readonly Member[] _members;
    private readonly int[] _launchRanks;
    private readonly FaultNote _note;
    private IDisposable? _server;
    private static readonly CallSite _collective = new(Operation.None, CallPhase.Create, 0);
    private Round? _round;
    private long _nextSequence;
    private bool _cancelled;
    private int _disposed;

    /// <param name="options">How this process first joined.</param>
    /// <param name="membership">The group.</param>
    /// <param name="server">On rank 0: what turns latecomers away.</param>
    /// <param name="launchRanks">By rank: the rank that it was started with, by which a launcher knows it.</param>
    public ControlChannel(ExpertGroupOptions options, Membership membership, IDisposable? server, int[]? launchRanks = null)
        : base(membership.Rank, membership.Peers, membership.Generation)
    {
        _options = options;
        _members = membership.Members;
        _launchRanks = launchRanks ?? [.. Enumerable.Range(0, Size)];
        _note = new FaultNote(options.FaultNotes, options.Job, _launchRanks[Rank]);
        _server = server;
        var all = RankSet.AllOf(Size);
        _links = [.. membership.Ties.Select((tie, rank) => tie is null ? null : new PeerLink(rank, all, Generation, tie))];
        _losses = new Accord(Rank, Size);
        _signs = new Sign[Size];
        _vote = new Accord(Rank, Size);
        _monitor = new Thread(Watch) { IsBackground = true, Name = $"Switchyard control, rank {Rank}" };
        _monitor.Start();
    }

    public static Task<ControlChannel> JoinAsync(ExpertGroupOptions options, CancellationToken ct) =>
        JoinAsync(options, options.Rank == 0 ? FirstGeneration : RendezvousClient.AnyGeneration, ct);

    private static async Task<ControlChannel> JoinAsync(ExpertGroupOptions options, long generation, CancellationToken ct)
    {
        if (options.Rank > 0)
            return new ControlChannel(options, await RendezvousClient.JoinAsync(options, generation, ct).ConfigureAwait(false), server: null);
        RendezvousServer server = await RendezvousServer.StartAsync(options, generation, ct).ConfigureAwait(false);
        return await FinishAsync(options, server, ct).ConfigureAwait(false);
    }

    private static async Task<ControlChannel> FinishAsync(ExpertGroupOptions options, RendezvousServer server, CancellationToken ct)
    {
        try
        {
            using CancellationTokenRegistration cancelling = ct.UnsafeRegister(static server => ((RendezvousServer)server!).Cancel(), server);
            return new ControlChannel(options, await server.Joined.ConfigureAwait(false), server);
        }
        catch (Exception e)
        {
            server.Dispose();
            if (e is OperationCanceledException) ct.ThrowIfCancellationRequested();
            throw;
        }
    }

    /// <inheritdoc/>
    protected override async Task<Gathered[]> GatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct)
    {
        ct.ThrowIfCancellationRequested();
        if (payload.Length > LinkFrame.MaxTotalBytes)
        {
            throw new ArgumentException(
                $"An all-gather takes at most {LinkFrame.MaxTotalBytes} bytes from a rank, not {payload.Length}.", nameof(payload));
        }
        Round round = Begin(payload.ToArray(), arena);
        using CancellationTokenRegistration cancelling = ct.UnsafeRegister(_ => Cancel(round, ct), null);
        return await round.Result.ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override void NoteFault(int culprit, string message) => _note.Write(_launchRanks[culprit], message);

    /// <inheritdoc/>
    protected override (int Peer, long Call) FirstAbsent()
    {
        lock (_gate) return (_links.OfType<PeerLink>().FirstOrDefault(link => link.Ready.Count == 0)?.Peer ?? Rank, _nextSequence);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return;
        StopWatching();
        _server?.Dispose();
    }

    private Round Begin(byte[] payload, ArenaExport? arena)
    {
        lock (_gate)
        {
            ThrowIfOver(_collective);
            ObjectDisposedException.ThrowIf(_disposed != 0, typeof(ExpertGroup));
            if (_cancelled)
                throw new InvalidOperationException("An earlier collective call was cancelled: the group is unusable, rebuild it or join again.");
            if (_round is not null)
                throw new InvalidOperationException("A rank makes collective calls one at a time; the last has not returned.");
            var round = new Round(payload, arena?.InProcess);
            long sequence = _nextSequence++;
            foreach (PeerLink link in _links.OfType<PeerLink>())
            {
                link.Enqueue(new Outgoing(payload, sequence, arena?.Descriptor, arena?.Bytes ?? 0));
                link.Pump();
            }
            _round = round;
            Settle();
            if (_links.Any(link => link is { IsSending: true })) _wake.Set(); // the monitor sends the rest
            return round;
        }
    }

    private void Cancel(Round round, CancellationToken ct)
    {
        lock (_gate)
        {
            if (_round != round) return;
            _cancelled = true;
            _round = null;
            round.Cancel(ct);
        }
    }

    /// <summary>Ends the running all-gather if all have contributed, or if one that has not is gone. The lock is held.</summary>
    private void Settle()
    {
        if (_round is not { } round) return;
        int absent = -1;
        bool isWhole = true;
        foreach (PeerLink link in _links.OfType<PeerLink>())
        {
            if (link.Ready.Count == 0 && absent < 0 && StateOf(link.Peer) != PeerState.Alive) absent = link.Peer;
            isWhole &= link.Ready.Count > 0 && !link.IsSending;
        }
        if (absent >= 0) round.Fail(Gone(absent));
        else if (isWhole) round.Complete([.. _links.Select(link => link is null ? round.Own() : link.Ready.Dequeue().Take())]);
        else return;
        _round = null;
    }

    /// <summary>Names the ranks that were lost first: the absent one may only have followed them.</summary>
    private SwitchyardException Gone(int absent)
    {
        if (IsFenced) return new FencedException(Generation + 1, _collective);
        IReadOnlyList<PeerInfo> lost = LostTogether.Count > 0 ? LostTogether : [Peers[absent]];
        int culprit = lost[0].Rank;
        return (SwitchyardException?)_links[culprit]!.Violation ?? new PeerLostException(lost, CauseOf(culprit), _collective);
    }

    /// <summary>One all-gather of this rank, until all have contributed.</summary>
    private sealed class Round(byte[] payload, ArenaMemory? arena)
    {
        private readonly TaskCompletionSource<Gathered[]> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<Gathered[]> Result => _result.Task;

        public Gathered Own() => new(payload, arena is null ? null : ArenaExport.Of(arena));

        public void Complete(Gathered[] all) => _result.SetResult(all);

        public void Fail(Exception error) => _result.SetException(error);

        public void Cancel(CancellationToken ct) => _result.SetCanceled(ct);
    }
}

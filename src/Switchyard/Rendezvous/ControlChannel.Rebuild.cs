using System.Text;
using Switchyard.Protocol;

namespace Switchyard.Rendezvous;

/// <summary>
/// How the ranks that remain agree on the next membership, over the connections that they have. Each tells the others whom it would leave out;
/// when all that remain want the same, the lowest of them commits it, and each that learns of that tells all others before anything else. Whoever
/// has committed votes no more, so there is never a second outcome, and a rank that dies in between is found in the next membership.
/// </summary>
internal sealed partial class ControlChannel
{
    private readonly Accord _vote;
    private RankSet _evicted;
    private bool _hasVoted;
    private TaskCompletionSource<Succession>? _succession;

    /// <inheritdoc/>
    protected override Task<Succession> SucceedAsync(RankSet evicted, CancellationToken ct)
    {
        lock (_gate)
        {
            if (UnheldSuccessor is { } next) return Task.FromResult(next);
            ThrowIfOver(new CallSite(Operation.None, CallPhase.Rebuild, 0));
            ObjectDisposedException.ThrowIf(_disposed != 0, typeof(ExpertGroup));
            if (_round is not null)
                throw new InvalidOperationException("A rank makes collective calls one at a time; the last has not returned.");
            _evicted = _evicted.With(evicted);
            _succession ??= new TaskCompletionSource<Succession>(TaskCreationOptions.RunContinuationsAsynchronously);
            _wake.Set();
            return _succession.Task.WaitAsync(ct);
        }
    }

    /// <inheritdoc/>
    protected override int FirstWithoutVote()
    {
        lock (_gate) return _vote.Missing.DefaultIfEmpty(Rank).First();
    }

    /// <summary>Votes if this rank's caller wants to rebuild, and commits where all members want the same and this is the lowest of them.</summary>
    private void AdvanceVote()
    {
        lock (_gate)
        {
            if (_succession is null || IsOver || IsFenced) return;
            var gone = RankSet.Of(Enumerable.Range(0, Size).Where(rank => StateOf(rank) != PeerState.Alive));
            bool isNew = _vote.Add(gone.With(_losses.Out).With(_evicted).With(_vote.Claims));
            if (isNew || !_hasVoted)
            {
                _hasVoted = true;
                foreach (PeerLink link in Members()) Tell(link, LinkFrameKind.Vote, _vote.Out, FaultPoint.VoteToPeer);
            }
            if (_vote.Members.First() == Rank && _vote.Missing.IsEmpty) Commit(_vote.Out);
        }
    }

    /// <summary>
    /// Meets newcomers at the job's meeting place, together with all of this group, and returns this rank's channel in the larger group. Where
    /// that fails this group goes on.
    /// </summary>
    public override async Task<Succession> GrowAsync(int newcomers, CancellationToken ct)
    {
        ExpertGroupOptions options = _options with { Rank = Rank, Size = Size + newcomers };
        long generation = Generation + 1;
        ControlChannel grown;
        if (Rank == 0)
        {
            RendezvousServer server = await OpenPlacesAsync(options, generation, ct).ConfigureAwait(false);
            grown = await FinishAsync(options, server, ct).ConfigureAwait(false);
        }
        else
        {
            Gathered[] all = await AllGatherAsync(ReadOnlyMemory<byte>.Empty, null, ct).ConfigureAwait(false);
            if (all[0].Payload.Length > 0) throw new JoinException("Rank 0: " + Encoding.UTF8.GetString(all[0].Payload));
            grown = new ControlChannel(options, await RendezvousClient.JoinAsync(options, generation, ct).ConfigureAwait(false), server: null);
        }
        var next = new Succession(grown, [.. Enumerable.Range(0, Size), .. Enumerable.Repeat(-1, newcomers)]);
        Dispose();
        NoteSuccessor(next);
        return next;
    }

    /// <summary>Listens for newcomers and then tells the others, who so never meet the server of this membership.</summary>
    private async Task<RendezvousServer> OpenPlacesAsync(ExpertGroupOptions options, long generation, CancellationToken ct)
    {
        RendezvousServer? server = null;
        JoinException? failure = null;
        try
        {
            _server?.Dispose();
            _server = null;
            server = await RendezvousServer.StartAsync(options, generation, ct).ConfigureAwait(false);
        }
        catch (Exception e) when (e is JoinException or TransportException)
        {
            failure = e as JoinException ?? new JoinException(e.Message, e);
        }
        try
        {
            await AllGatherAsync(Encoding.UTF8.GetBytes(failure?.Message ?? ""), null, ct).ConfigureAwait(false);
            return server ?? throw failure!;
        }
        catch
        {
            server?.Dispose();
            throw;
        }
    }

    private IEnumerable<PeerLink> Members() => Live().Where(link => !_vote.Out.Contains(link.Peer));

    private void TakeCommit(RankNews news)
    {
        lock (_gate)
        {
            // Whom this rank has voted out it does not follow: it had this rank's earlier vote, and will learn that it is fenced.
            if (IsOver || _vote.Out.Contains(news.Peer)) return;
            if (_hasVoted && !news.Ranks.Contains(Rank)) Commit(news.Ranks);
            else _links[news.Peer]!.Break(new ProtocolException(news.Peer, $"it committed a membership without ranks {news.Ranks}, for which this rank did not vote"));
        }
    }

    /// <summary>The others went on. They sent this last.</summary>
    private void TakeFence()
    {
        lock (_gate)
        {
            NoteFence();
            foreach (PeerLink link in _links.OfType<PeerLink>()) link.End();
            _succession?.TrySetException(new FencedException(Generation + 1, new CallSite(Operation.None, CallPhase.Rebuild, 0)));
        }
        foreach (int rank in RankSet.AllOf(Size).Where(rank => rank != Rank))
            ReportGone(rank, PeerState.Lost, "it went on in a group without this rank");
    }

    /// <summary>Begins the next membership. The lock is held; this channel's thread does nothing more for it.</summary>
    private void Commit(RankSet left)
    {
        foreach (PeerLink link in Live())
            Tell(link, left.Contains(link.Peer) ? LinkFrameKind.Fenced : LinkFrameKind.Commit, left, FaultPoint.CommitToPeer);
        FaultPoints.Pass(FaultPoint.Commit);

        int[] former = [.. RankSet.AllOf(Size).Without(left)];
        foreach (PeerLink? link in _links.Where(link => link is not null && left.Contains(link.Peer))) link!.Dispose();
        var next = new Membership(
            Array.IndexOf(former, Rank), Generation + 1, [.. former.Select(rank => _members[rank])], [.. former.Select(rank => _links[rank]?.Detach())]);
        var channel = new ControlChannel(_options, next, _server, [.. former.Select(rank => _launchRanks[rank])]) { Deadline = Deadline };
        _server = null;
        var succession = new Succession(channel, former);
        NoteSuccessor(succession);
        _succession!.SetResult(succession);
    }

    /// <summary>Ends what still runs on the old membership: nobody will answer it.</summary>
    private void Retire()
    {
        foreach (int rank in RankSet.AllOf(Size).Where(rank => rank != Rank)) ReportGone(rank, PeerState.Left, "the group was rebuilt");
        _wake.Dispose();
    }
}

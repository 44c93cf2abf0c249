using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Rendezvous;
using Switchyard.Transports;

namespace Switchyard.Protocol;

/// <summary>The messages and flags of a call, for engines that run on the host: everything but moving rows.</summary>
internal sealed unsafe class HostProtocol : IPeerWatcher, IDisposable
{
    private readonly PeerArenas _arenas;
    private readonly GroupChannel _channel;
    private readonly FaultBoard _faults;
    private readonly Waiter _waiter;
    private readonly CountMatrix _counts;
    private readonly int[] _bases;
    private readonly Agreement _agreement;
    private readonly Announcement[] _heard;
    private readonly int _receiveCapacity;

    public HostProtocol(EngineSetup setup)
    {
        _channel = setup.Channel;
        _arenas = new PeerArenas(_channel.Rank, setup.Layout, setup.Arenas);
        _faults = new FaultBoard(_arenas, _channel);
        _waiter = new Waiter(_arenas, _channel, _faults, setup.Neighbours);
        _counts = new CountMatrix(_arenas.Ranks, setup.Layout.Experts);
        _bases = new int[setup.Layout.Experts];
        _agreement = new Agreement(_arenas.Ranks);
        _heard = new Announcement[_arenas.Ranks];
        _receiveCapacity = setup.Options.ReceiveCapacityFor(_arenas.Ranks);
        _channel.AddWatcher(this);
    }

    public PeerArenas Arenas => _arenas;

    public TimeSpan Deadline
    {
        get => _waiter.Deadline;
        set => _waiter.Deadline = value;
    }

    private ArenaLayout Layout => _arenas.Layout;

    private int Rank => _arenas.Rank;

    public TimeSpan WaitedFor(int peer) => _waiter.WaitedFor(peer);

    public void ThrowIfBroken()
    {
        if (_faults.IsRaised) throw _faults.Exception(default);
    }

    public void OnPeerGone(PeerInfo peer, PeerState state, string cause)
    {
        // One that left may have done all that is asked of it; a wait for it decides. One that was lost has not.
        if (state == PeerState.Lost) _faults.RaiseLocally(new FaultRecord { Kind = FaultKind.PeerLost, Culprit = peer.Rank });
        else _arenas.DoorbellOf(Rank).Ring();
    }

    public void Announce(in Announcement announcement, RoutingPlan plan)
    {
        bool hasCounts = announcement.Signature.Operation == Operation.Dispatch;
        uint check = hasCounts ? announcement.CheckWith(plan.TokensTo, plan.ChoicesOf) : announcement.CheckWith([], []);
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            if (peer == Rank) continue;
            FaultPoints.Pass(FaultPoint.AnnounceToPeer);
            Announcement* entry = _arenas.EntryAt(peer, Rank, announcement.Epoch);
            ulong flag = entry->Flag;
            *entry = announcement with { Flag = flag, Check = check };
            if (hasCounts)
            {
                plan.TokensTo.CopyTo(new Span<int>((byte*)entry + Layout.RankCountsOffset, _arenas.Ranks));
                plan.ChoicesOf.CopyTo(new Span<int>((byte*)entry + Layout.ExpertCountsOffset, Layout.Experts));
            }
            Volatile.Write(ref entry->Flag, new EpochWord(announcement.Epoch).Bits);
        }
        _arenas.RingSleepers();
    }

    public Agreement Agree(in Announcement mine, RoutingPlan plan)
    {
        var site = new CallSite(mine.Signature.Operation, CallPhase.AwaitAnnouncement, mine.Epoch);
        HearMyself(mine, plan);
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            if (peer != Rank) Hear(peer, mine, plan, site);
        }
        RefuseIfSomeoneCannot(site);

        if (mine.Signature.Operation == Operation.Dispatch)
        {
            _counts.SumFor(Rank);
            RoutingPlanner.Totals(plan, _counts);
        }
        if (mine.Signature.Operation != Operation.Combine) RefuseIfSomeoneOverflows(plan, site);
        if (mine.Signature.Operation == Operation.Dispatch) RoutingPlanner.Resolve(plan, Rank, _counts, _bases);
        Locate(mine.Signature, plan, site);
        FaultPoints.Pass(FaultPoint.Agree);
        return _agreement;
    }

    /// <summary>Tells each rank that was sent rows; they are all written.</summary>
    public void SignalRows(long epoch, RoutingPlan plan)
    {
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            FaultPoints.Pass(FaultPoint.SignalRowsToPeer);
            if (plan.SentTo[peer] > 0) Volatile.Write(ref *_arenas.ArrivalAt(peer, Rank), new EpochWord(epoch, plan.SentTo[peer]).Bits);
        }
        _arenas.RingSleepers();
    }

    public void AwaitRows(long epoch, RoutingPlan plan, CallSite site)
    {
        FaultPoints.Pass(FaultPoint.AwaitRows);
        for (int source = 0; source < _arenas.Ranks; source++)
        {
            int expected = plan.ReceivedFrom[source];
            if (expected == 0) continue;
            EpochWord word = Await(_arenas.ArrivalAt(Rank, source), epoch, source, site);
            if (word.EpochNear(epoch) != epoch || word.Count != expected) throw Broken(source, site, expected, word.Count);
        }
    }

    /// <summary>Tells every rank that this one has finished reading results.</summary>
    public void SignalDone(long epoch)
    {
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            FaultPoints.Pass(FaultPoint.SignalDoneToPeer);
            Volatile.Write(ref *_arenas.DoneAt(peer, Rank), new EpochWord(epoch).Bits);
        }
        _arenas.RingSleepers();
    }

    public void AwaitDone(long epoch, CallSite site)
    {
        for (int reader = 0; reader < _arenas.Ranks; reader++) Await(_arenas.DoneAt(Rank, reader), epoch, reader, site);
    }

    public void Dispose()
    {
        _channel.RemoveWatcher(this);
        // After a fault the peers have, or will have, its record: a closed word that overtakes it would be taken for the fault.
        if (!_faults.IsRaised)
        {
            for (int peer = 0; peer < _arenas.Ranks; peer++) Volatile.Write(ref *_arenas.ClosedAt(peer, Rank), 1);
            _arenas.RingSleepers();
        }
        _arenas.Release();
    }

    /// <summary>What this rank itself says is not taken from memory that every peer can write: where its own rows go depends on it.</summary>
    private void HearMyself(in Announcement mine, RoutingPlan plan)
    {
        _heard[Rank] = mine;
        plan.TokensTo.CopyTo(_counts.TokensFrom(Rank));
        plan.ChoicesOf.CopyTo(_counts.ChoicesFrom(Rank));
    }

    /// <summary>Waits for a peer's announcement, copies it once, and checks the copy.</summary>
    private void Hear(int peer, in Announcement mine, RoutingPlan plan, CallSite site)
    {
        Announcement* entry = _arenas.EntryAt(Rank, peer, mine.Epoch);
        Await(&entry->Flag, mine.Epoch, peer, site);
        Announcement heard = *entry;
        _heard[peer] = heard;
        if (heard.Epoch != mine.Epoch) throw Broken(peer, site, mine.Epoch, heard.Epoch);
        bool hasCounts = heard.Signature.Operation == Operation.Dispatch;
        if (hasCounts)
        {
            new ReadOnlySpan<int>((byte*)entry + Layout.RankCountsOffset, _arenas.Ranks).CopyTo(_counts.TokensFrom(peer));
            new ReadOnlySpan<int>((byte*)entry + Layout.ExpertCountsOffset, Layout.Experts).CopyTo(_counts.ChoicesFrom(peer));
        }
        uint check = hasCounts ? heard.CheckWith(_counts.TokensFrom(peer), _counts.ChoicesFrom(peer)) : heard.CheckWith([], []);
        if (heard.Check != check) throw Broken(peer, site, check, heard.Check);
        if (heard.Signature != mine.Signature) throw Mismatch(peer, mine.Signature, heard.Signature, site);
        if (hasCounts) CheckCounts(peer, plan, site);
    }

    private EpochWord Await(ulong* word, long epoch, int peer, CallSite site)
    {
        EpochWord seen = _waiter.Await(word, epoch, peer, site);
        return seen.IsWhole ? seen : throw Broken(peer, site, epoch, seen.EpochNear(epoch));
    }

    private void CheckCounts(int peer, RoutingPlan plan, CallSite site)
    {
        foreach (int choices in _counts.ChoicesFrom(peer))
        {
            if (choices is < 0 or > Limits.MaxTokensPerRank) throw Broken(peer, site, Limits.MaxTokensPerRank, choices);
        }
        for (int destination = 0; destination < _arenas.Ranks; destination++)
        {
            // A token that has rows somewhere has chosen an expert there: groups of rows are never more than rows.
            long most = Math.Min(Limits.MaxTokensPerRank, _counts.ChoicesBetween(peer, destination, plan.Placement));
            int tokens = _counts.TokensFrom(peer)[destination];
            if (tokens < 0 || tokens > most) throw Broken(peer, site, most, tokens);
        }
    }

    private void RefuseIfSomeoneCannot(CallSite site)
    {
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            if (_heard[peer].NeededBytes == 0) continue;
            throw Refusals.NoBytes(peer, _heard[peer].NeededBytes, _heard[peer].AvailableBytes, site);
        }
    }

    private void RefuseIfSomeoneOverflows(RoutingPlan plan, CallSite site)
    {
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            if (plan.TotalRows[peer] <= _heard[peer].RegionRows) continue;
            throw Refusals.NoRows(peer, plan.TotalRows[peer], _heard[peer].RegionRows, _receiveCapacity, site);
        }
    }

    /// <summary>Takes where every rank's rows lie from what it announced, after checking that they lie in its pool.</summary>
    private void Locate(CallSignature signature, RoutingPlan plan, CallSite site)
    {
        for (int peer = 0; peer < _arenas.Ranks; peer++)
        {
            ref readonly Announcement heard = ref _heard[peer];
            bool isCombine = signature.Operation == Operation.Combine;
            RegionLayout region = isCombine ? default : plan.RegionOf(peer, signature.Format);
            long bytes = isCombine ? plan.SummedRows[peer] * Layout.RowBytes : region.Bytes;
            RequireInPool(peer, heard.RegionOffset, bytes, site);
            if (isCombine && heard.RegionRows != plan.SummedRows[peer]) throw Broken(peer, site, plan.SummedRows[peer], heard.RegionRows);
            if (signature.Has(CallTraits.Weights))
                RequireInPool(peer, heard.WeightsOffset, plan.TotalRows[peer] * Layout.ColumnsOf(plan.Layout) * 4, site);
            _agreement.RegionOffsets[peer] = heard.RegionOffset;
            _agreement.Regions[peer] = region;
            _agreement.WeightsOffsets[peer] = heard.WeightsOffset;
        }
    }

    private void RequireInPool(int peer, long offset, long bytes, CallSite site)
    {
        if (bytes == 0) return;
        if (offset < Layout.PoolOffset || bytes > Layout.PoolBytes || offset > Layout.TotalBytes - bytes) throw Broken(peer, site, Layout.TotalBytes - bytes, offset);
    }

    /// <summary>Breaks the buffer of all ranks: a peer wrote what the protocol does not allow.</summary>
    public SwitchyardException Broken(int peer, CallSite site, long expected, long seen) =>
        _faults.Raise(Record(FaultKind.Protocol, peer, site) with { Expected = expected, Seen = seen });

    private SwitchyardException Mismatch(int peer, CallSignature mine, CallSignature heard, CallSite site) =>
        _faults.Raise(Record(FaultKind.Mismatch, peer, site) with { ReporterSignature = mine, CulpritSignature = heard });

    private static FaultRecord Record(FaultKind kind, int culprit, CallSite site) =>
        new() { Kind = kind, Culprit = culprit, Operation = site.Operation, Phase = site.Phase, Epoch = site.Epoch };
}

using Switchyard.Arena;
using Switchyard.Rendezvous;

namespace Switchyard.Protocol;

/// <summary>
/// The abort words: the first fault that reaches a rank's arena breaks its buffer for good. A reporter writes its record there, then swaps the
/// abort word from zero; who loses the race changes nothing. Rank 0 comes first and decides between reporters. The owner's watcher of peers'
/// lives has a record of its own, since it runs beside the caller.
/// </summary>
internal sealed unsafe class FaultBoard(PeerArenas arenas, GroupChannel channel)
{
    private int WatcherSlot => arenas.Ranks;

    /// <summary>Whether a fault has been reported to this rank.</summary>
    public bool IsRaised => Volatile.Read(ref *arenas.AbortOf(arenas.Rank)) != 0;

    /// <summary>The error that broke this buffer, new at each call so that stack traces stay apart.</summary>
    public SwitchyardException Exception(CallSite site)
    {
        uint slot = Volatile.Read(ref *arenas.AbortOf(arenas.Rank)) - 1;
        if (slot > WatcherSlot) return new ProtocolException(-1, $"The abort word names record {slot} of {WatcherSlot + 1}.");
        FaultRecord record = *arenas.FaultAt(arenas.Rank, (int)slot);
        // The watcher does not know which call its owner is in.
        if (slot == WatcherSlot)
        {
            record = record with { Operation = site.Operation, Phase = site.Phase, Epoch = site.Epoch };
            if (channel.IsFenced) return new FencedException(channel.Generation + 1, site);
            if ((uint)record.Culprit < (uint)arenas.Ranks) record.Seen = Math.Max(0, arenas.LastAnnounced(record.Culprit, site.Epoch));
        }
        SwitchyardException error = record.ToException(channel);
        if (error is PeerLostException or PeerTimeoutException && !channel.IsOver) channel.NoteFault(record.Culprit, error.Message);
        return error;
    }

    /// <summary>Tells all ranks, this one included, and returns the error to throw: this one or one that came first.</summary>
    public SwitchyardException Raise(FaultRecord record)
    {
        record.Reporter = arenas.Rank;
        Post(0, arenas.Rank, record);
        // Of several that report at once, the one whose record was first at rank 0 is believed by all.
        uint first = Volatile.Read(ref *arenas.AbortOf(0)) - 1;
        if (first < WatcherSlot) record = *arenas.FaultAt(0, (int)first);
        for (int peer = 1; peer < arenas.Ranks; peer++) Post(peer, arenas.Rank, record);
        return Exception(record.Site);
    }

    /// <summary>Tells this rank alone: what the control plane found reaches each rank by its own.</summary>
    public void RaiseLocally(FaultRecord record)
    {
        record.Reporter = arenas.Rank;
        Post(arenas.Rank, WatcherSlot, record);
    }

    private void Post(int rank, int slot, in FaultRecord record)
    {
        uint* abort = arenas.AbortOf(rank);
        if (Volatile.Read(ref *abort) == 0)
        {
            *arenas.FaultAt(rank, slot) = record;
            Interlocked.CompareExchange(ref *abort, (uint)slot + 1, 0);
        }
        arenas.DoorbellOf(rank).Ring();
    }
}

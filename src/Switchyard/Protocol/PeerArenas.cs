using Switchyard.Arena;
using Switchyard.Transports;

namespace Switchyard.Protocol;

/// <summary>All ranks' arenas as this rank sees them, with names for what lies in them.</summary>
internal sealed unsafe class PeerArenas
{
    private readonly ArenaMemory[] _memories;
    private readonly nint[] _bases;

    public PeerArenas(int rank, ArenaLayout layout, ArenaMemory[] memories)
    {
        Rank = rank;
        Layout = layout;
        _memories = memories;
        _bases = [.. memories.Select(memory => memory.Address)];
        foreach (ArenaMemory memory in memories) memory.AddHolder();
    }

    public int Rank { get; }

    public int Ranks => _bases.Length;

    public ArenaLayout Layout { get; }

    public byte* Base(int rank) => (byte*)_bases[rank];

    public Doorbell DoorbellOf(int rank) => new(_bases[rank] + (nint)Layout.DoorbellOffset, _bases[rank] + (nint)Layout.SleeperOffset);

    public uint* AbortOf(int rank) => (uint*)(Base(rank) + Layout.AbortOffset);

    public FaultRecord* FaultAt(int rank, int reporter) => (FaultRecord*)(Base(rank) + Layout.FaultOf(reporter));

    public ulong* ArrivalAt(int rank, int source) => (ulong*)(Base(rank) + Layout.ArrivalOf(source));

    public ulong* DoneAt(int rank, int reader) => (ulong*)(Base(rank) + Layout.DoneOf(reader));

    public uint* ClosedAt(int rank, int peer) => (uint*)(Base(rank) + Layout.ClosedOf(peer));

    public Announcement* EntryAt(int rank, int source, long epoch) => (Announcement*)(Base(rank) + Layout.EntryOf(source, epoch));

    /// <summary>The last call that a peer has announced here.</summary>
    public long LastAnnounced(int peer, long near)
    {
        long last = long.MinValue;
        for (int entry = 0; entry < ArenaLayout.RingDepth; entry++)
            last = Math.Max(last, new EpochWord(Volatile.Read(ref EntryAt(Rank, peer, entry)->Flag)).EpochNear(near));
        return last;
    }

    /// <summary>Wakes every peer that sleeps. One fence serves for all the words written before.</summary>
    public void RingSleepers()
    {
        Interlocked.MemoryBarrier();
        for (int peer = 0; peer < Ranks; peer++)
        {
            if (peer != Rank) DoorbellOf(peer).RingIfSleeping();
        }
    }

    public void Release()
    {
        foreach (ArenaMemory memory in _memories) memory.Release();
    }
}

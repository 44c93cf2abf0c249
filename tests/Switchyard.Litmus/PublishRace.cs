using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Cpu.Vectors;
using Switchyard.Protocol;

namespace Switchyard.Litmus;

internal enum Publish
{
    PlainStores,
    StreamedFenced,
    StreamedUnfenced,
}

/// <summary>A row and then its arrival word, through two mappings of an arena as two processes have them. Forbidden: the word with an older row.</summary>
internal sealed unsafe class PublishRace : IRace
{
    private const int RowBytes = 1024;
    private readonly SharedMemory _mine;
    private readonly SharedMemory _peers;
    private readonly ArenaLayout _layout = new(2, 1, 1, RowBytes / 4, ElementType.Single, 64 * RowBytes);
    private readonly Publish _how;
    private readonly long[] _row = new long[RowBytes / 8];
    private bool _sawOlder;

    public PublishRace(Publish how)
    {
        _how = how;
        _mine = SharedMemory.Create(_layout.TotalBytes);
        _peers = SharedMemory.Map(_mine.Descriptor, _layout.TotalBytes);
    }

    public void Write(long round)
    {
        byte* row = (byte*)_peers.Address + _layout.PoolOffset + (round % 64 * RowBytes);
        Array.Fill(_row, round);
        fixed (long* source = _row)
        {
            if (_how == Publish.PlainStores) Buffer.MemoryCopy(source, row, RowBytes, RowBytes);
            else RowCopy.Streaming((byte*)source, row, RowBytes, VectorWidths.Best);
        }
        if (_how == Publish.StreamedFenced) RowCopy.Fence();
        Volatile.Write(ref *ArrivalIn(_peers), new EpochWord(round, 1).Bits);
    }

    public void Read(long round)
    {
        while (!new EpochWord(Volatile.Read(ref *ArrivalIn(_mine))).HasReached(round))
        {
        }
        // From the end: the last store is the likeliest to be late.
        long* row = (long*)((byte*)_mine.Address + _layout.PoolOffset + (round % 64 * RowBytes));
        _sawOlder = false;
        for (int i = (RowBytes / 8) - 1; i >= 0; i--) _sawOlder |= row[i] != round;
    }

    public bool IsForbidden(long round) => _sawOlder;

    private ulong* ArrivalIn(SharedMemory arena) => (ulong*)((byte*)arena.Address + _layout.ArrivalOf(0));
}

using System.Runtime.InteropServices;
using Switchyard.Transports;

namespace Switchyard.Arena;

/// <summary>The first line of an arena: whose it is, and of which membership and layout.</summary>
[StructLayout(LayoutKind.Sequential, Size = ArenaLayout.LineBytes)]
internal readonly record struct ArenaHeader(ulong Magic, uint Version, int Rank, long Generation, long TotalBytes, long PoolOffset, int Ranks, int EntryBytes)
{
    public static void Write(ArenaMemory arena, int rank, long generation, ArenaLayout layout)
    {
        ArenaHeader header = Of(rank, generation, layout);
        arena.Write(0, MemoryMarshal.AsBytes(new ReadOnlySpan<ArenaHeader>(in header)));
    }

    public static bool Matches(ArenaMemory arena, int rank, long generation, ArenaLayout layout)
    {
        if (arena.Bytes != layout.TotalBytes) return false;
        ArenaHeader header = default;
        arena.Read(0, MemoryMarshal.AsBytes(new Span<ArenaHeader>(ref header)));
        return header == Of(rank, generation, layout);
    }

    private static ArenaHeader Of(int rank, long generation, ArenaLayout layout) =>
        new(ArenaLayout.Magic, ArenaLayout.Version, rank, generation, layout.TotalBytes, layout.PoolOffset, layout.Ranks, layout.EntryBytes);
}

using System.Runtime.InteropServices;
using Switchyard.Transports;

namespace Switchyard.Arena;

/// <summary>The first line of an arena: whose it is, and of which membership and layout.</summary>
[StructLayout(LayoutKind.Sequential, Size = ArenaLayout.LineBytes)]
internal readonly record struct ArenaHeader(ulong Magic, uint Version, int Rank, long Generation, long TotalBytes, long PoolOffset, int Ranks, int EntryBytes)
{
    public static unsafe void Write(ArenaMemory arena, int rank, long generation, ArenaLayout layout) =>
        *(ArenaHeader*)arena.Address = Of(rank, generation, layout);

    public static unsafe bool Matches(ArenaMemory arena, int rank, long generation, ArenaLayout layout) =>
        arena.Bytes == layout.TotalBytes && *(ArenaHeader*)arena.Address == Of(rank, generation, layout);

    private static ArenaHeader Of(int rank, long generation, ArenaLayout layout) =>
        new(ArenaLayout.Magic, ArenaLayout.Version, rank, generation, layout.TotalBytes, layout.PoolOffset, layout.Ranks, layout.EntryBytes);
}

using System.Runtime.CompilerServices;

namespace Switchyard.Arena;

/// <summary>
/// Where everything lies in an arena: the one place that computes it. All ranks compute the same from the same options.
/// <c>docs/spec/arena.md</c> shows it byte by byte.
/// </summary>
internal sealed record ArenaLayout
{
    public const ulong Magic = 0x414E_4552_4159_5753; // "SWYARENA" in memory order
    public const uint Version = 3;
    public const int LineBytes = 64;
    public const int PageBytes = 4096;

    /// <summary>Announcing epoch e + 2 needs every peer's epoch e + 1, which it announces only after it is done with e: two entries suffice.</summary>
    public const int RingDepth = 2;

    public ArenaLayout(int ranks, int experts, int topK, int hidden, ElementType element, long poolBytes)
    {
        Ranks = ranks;
        Experts = experts;
        TopK = topK;
        Hidden = hidden;
        Element = element;
        Format = new RowFormat(hidden, element);

        DoorbellOffset = LineBytes;
        SleeperOffset = DoorbellOffset + LineBytes;
        AbortOffset = SleeperOffset + LineBytes;
        FaultsOffset = AbortOffset + LineBytes;
        ArrivalsOffset = FaultsOffset + ((ranks + 1L) * FaultBytes);
        DoneOffset = ArrivalsOffset + (ranks * (long)LineBytes);
        ClosedOffset = DoneOffset + (ranks * (long)LineBytes);
        RingOffset = ClosedOffset + (ranks * (long)LineBytes);
        RankCountsOffset = Unsafe.SizeOf<Protocol.Announcement>();
        ExpertCountsOffset = RankCountsOffset + (4 * ranks);
        EntryBytes = (int)AlignUp(ExpertCountsOffset + (4 * experts), LineBytes);
        PoolOffset = AlignUp(RingOffset + ((long)ranks * RingDepth * EntryBytes), PageBytes);
        PoolBytes = AlignUp(poolBytes, PageBytes);
    }

    public const int FaultBytes = 2 * LineBytes;

    public int Ranks { get; }

    public int Experts { get; }

    public int TopK { get; }

    public int Hidden { get; }

    public ElementType Element { get; }

    /// <summary>The rows that are combined, and dispatched unless a call brings others.</summary>
    public RowFormat Format { get; }

    public long RowBytes => Format.RowBytes;

    /// <summary>u32, added to by anyone who rings; the owner sleeps on it.</summary>
    public long DoorbellOffset { get; }

    /// <summary>u32, written by the owner: 1 while it sleeps or is about to.</summary>
    public long SleeperOffset { get; }

    /// <summary>u32, compare-and-swapped once by the first to report a fault: its fault record's index + 1.</summary>
    public long AbortOffset { get; }

    /// <summary>A record a reporter: ranks by index, then the owner's own watcher of peers' lives.</summary>
    public long FaultsOffset { get; }

    /// <summary>A line a source: the epoch whose rows it has written here, and how many.</summary>
    public long ArrivalsOffset { get; }

    /// <summary>A line a reader: the last combine in which it has finished reading here.</summary>
    public long DoneOffset { get; }

    /// <summary>A line a peer: 1 once it has disposed its buffer.</summary>
    public long ClosedOffset { get; }

    /// <summary>By source, then by epoch modulo <see cref="RingDepth"/>: announcements.</summary>
    public long RingOffset { get; }

    /// <summary>In an announcement: tokens to each rank, i32.</summary>
    public int RankCountsOffset { get; }

    /// <summary>In an announcement: choices of each expert, i32.</summary>
    public int ExpertCountsOffset { get; }

    public int EntryBytes { get; }

    public long PoolOffset { get; }

    public long PoolBytes { get; }

    public long TotalBytes => PoolOffset + PoolBytes;

    public long ArrivalOf(int source) => ArrivalsOffset + (source * (long)LineBytes);

    public long DoneOf(int reader) => DoneOffset + (reader * (long)LineBytes);

    public long ClosedOf(int peer) => ClosedOffset + (peer * (long)LineBytes);

    public long FaultOf(int reporter) => FaultsOffset + (reporter * (long)FaultBytes);

    public long EntryOf(int source, long epoch) => RingOffset + (((source * (long)RingDepth) + (epoch % RingDepth)) * EntryBytes);

    /// <summary>The shape of a region of rows that are combined, in the layout that takes most: what memory is reckoned in.</summary>
    public RegionShape LargestShape => new(Format, TopK, CountWords: 0, GroupColumns: 0);

    /// <summary>Columns of row metadata: top-k of them where a row stands for a token and rank, one where it stands for a choice.</summary>
    public int ColumnsOf(RowLayout layout) => layout == RowLayout.RankMajor ? TopK : 1;

    public static long AlignUp(long value, long alignment) => (value + alignment - 1) / alignment * alignment;
}

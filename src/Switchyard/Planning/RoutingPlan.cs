using Switchyard.Arena;
using Switchyard.Topology;

namespace Switchyard.Planning;

/// <summary>
/// Where each row of a dispatch goes, and what this rank receives: the content of a handle. It names rows, not memory. Its arrays are
/// reused from call to call once every holder has released it.
/// </summary>
internal sealed class RoutingPlan
{
    private readonly int _rank;
    private readonly int _maxTokens;
    private readonly int _receiveCapacity;
    private RowEntries? _byChoice;
    private int _holders;
    private long _handleEpoch;
    private long _keptEpoch;

    /// <param name="owner">The buffer.</param>
    /// <param name="layout">Its arenas' layout.</param>
    /// <param name="placement">Its experts' ranks.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="maxTokens">Tokens of this rank at most.</param>
    /// <param name="receiveCapacity">Rows that any rank receives at most, alignment padding not counted.</param>
    public RoutingPlan(ExpertBuffer owner, ArenaLayout layout, ExpertPlacement placement, int rank, int maxTokens, int receiveCapacity)
    {
        Owner = owner;
        _rank = rank;
        _receiveCapacity = receiveCapacity;
        TopK = layout.TopK;
        Placement = placement;
        _maxTokens = maxTokens;
        SentTo = new int[layout.Ranks];
        TokensTo = new int[layout.Ranks];
        ChoicesOf = new int[layout.Experts];
        TotalRows = new long[layout.Ranks];
        TotalTokens = new long[layout.Ranks];
        ReceivedFrom = new int[layout.Ranks];
        TokensFrom = new int[layout.Ranks];
        int locals = placement.ExpertsOf(rank).Length;
        TokensPerExpert = new int[locals];
        ExpertOffsets = new int[locals + 1];
    }

    /// <summary>The buffer whose handles this plan serves.</summary>
    public ExpertBuffer Owner { get; }

    public ExpertPlacement Placement { get; }

    public int TopK { get; }

    /// <summary>The epoch of the dispatch that made it, by which all ranks know it.</summary>
    public long BirthEpoch { get; private set; }

    /// <summary>The options of the dispatch that made it; they hold for cached dispatches too.</summary>
    public DispatchOptions Options { get; private set; }

    public RowLayout Layout => Options.Layout;

    public int Alignment => Options.ExpertAlignment;

    public bool IsFixedShape => Options.FixedShape;

    public bool IsPreReduced => Options.PreReduce;

    public int Tokens { get; private set; }

    /// <summary>The rows that dispatch sends.</summary>
    public RowEntries Sent { get; private set; } = null!;

    /// <summary>The rows that combine adds: those that were sent, or where they are pre-reduced one a token and rank, in order of rank.</summary>
    public RowEntries Summed { get; private set; } = null!;

    /// <summary>By rank: rows this rank sends there.</summary>
    public int[] SentTo { get; }

    /// <summary>By rank: tokens of this rank that have rows there.</summary>
    public int[] TokensTo { get; }

    /// <summary>By expert: this rank's choices of it.</summary>
    public int[] ChoicesOf { get; }

    /// <summary>By rank: rows it receives from all, padding included.</summary>
    public long[] TotalRows { get; }

    /// <summary>By rank: tokens of all that have rows there.</summary>
    public long[] TotalTokens { get; }

    /// <summary>By rank: rows this rank receives from there, padding not included.</summary>
    public int[] ReceivedFrom { get; }

    /// <summary>By rank: its tokens that have rows here.</summary>
    public int[] TokensFrom { get; }

    /// <summary>By local expert: choices of all ranks.</summary>
    public int[] TokensPerExpert { get; }

    /// <summary>By local expert: its first row, aligned; then the end. Expert-major only.</summary>
    public int[] ExpertOffsets { get; }

    /// <summary>Pre-reduction: this rank's groups of rows to sum, top-k rows each in order, -1 behind the last.</summary>
    public int[] Groups { get; private set; } = [];

    /// <summary>By rank: the rows that it shows to combine.</summary>
    public long[] SummedRows => IsPreReduced ? TotalTokens : TotalRows;

    /// <summary>What a device's engine keeps of the plan there; it stays with the plan from call to call.</summary>
    public object? OnDevice { get; set; }

    /// <summary>Takes the plan for a dispatch of so many tokens.</summary>
    public void Begin(in DispatchOptions options, int tokens)
    {
        Options = options;
        Tokens = tokens;
    }

    /// <summary>Makes room for this rank's rows where a host plans them; a device keeps them itself.</summary>
    public void HoldRows()
    {
        Summed ??= new RowEntries(_maxTokens, TopK);
        Sent = IsPreReduced ? _byChoice ??= new RowEntries(_maxTokens, TopK) : Summed;
    }

    /// <summary>Rows that a rank's region has at most: its receive capacity and alignment.</summary>
    public long MostRows(int rank) => _receiveCapacity + ((Alignment - 1L) * Placement.ExpertsOf(rank).Length);

    /// <summary>Rows of a rank's result, as its caller sees it: what it receives, or as many as can come.</summary>
    public long ResultRows(int rank) => IsFixedShape ? MostRows(rank) : TotalRows[rank];

    public RegionShape ShapeOf(int rank, RowFormat format) => new(
        format,
        Columns: Layout == RowLayout.RankMajor ? TopK : 1,
        CountWords: IsFixedShape ? 2 + (2 * Placement.ExpertsOf(rank).Length) : 0,
        GroupColumns: IsPreReduced ? TopK : 0);

    /// <summary>The region in which a rank receives, once the totals are known.</summary>
    public RegionLayout RegionOf(int rank, RowFormat format) => new(ResultRows(rank), TotalTokens[rank], ShapeOf(rank, format));

    /// <summary>Room for this rank's groups; grows to the most that ever came.</summary>
    public Span<int> RentGroups()
    {
        int length = (int)TotalTokens[_rank] * TopK;
        if (Groups.Length < length) Groups = new int[length];
        return Groups.AsSpan(0, length);
    }

    /// <summary>Regions that combines of graphs by this plan copy to, as long as it lives.</summary>
    public List<Region> GraphMemory { get; } = [];

    /// <summary>Gives the plan to its first holder, a result.</summary>
    public void Issue(long birthEpoch)
    {
        BirthEpoch = birthEpoch;
        Volatile.Write(ref _holders, 1);
        Volatile.Write(ref _handleEpoch, birthEpoch);
    }

    public void Hold() => Interlocked.Increment(ref _holders);

    /// <summary>Gives up a hold; the last one returns the plan to its buffer.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref _holders) != 0) return;
        Volatile.Write(ref _handleEpoch, 0);
        Owner.Recycle(this);
    }

    public bool IsHandleOf(long birthEpoch) => Volatile.Read(ref _handleEpoch) == birthEpoch;

    /// <summary>Holds the plan for its handle, once.</summary>
    public void Keep()
    {
        if (Interlocked.CompareExchange(ref _keptEpoch, BirthEpoch, 0) == 0) Hold();
    }

    public void Unkeep(long birthEpoch)
    {
        if (Interlocked.CompareExchange(ref _keptEpoch, 0, birthEpoch) == birthEpoch) Release();
    }
}

using Switchyard.Arena;
using Switchyard.Topology;

namespace Switchyard.Planning;

/// <summary>
/// Where each row of a dispatch goes, and what this rank receives: the content of a handle. It names rows, not memory. Its arrays are
/// reused from call to call once every holder has released it.
/// </summary>
internal sealed class RoutingPlan
{
    private int _holders;
    private long _handleEpoch;

    public RoutingPlan(ExpertBuffer owner, ArenaLayout layout, ExpertPlacement placement, int rank, int maxTokens)
    {
        Owner = owner;
        TopK = layout.TopK;
        Placement = placement;
        Destination = new int[maxTokens * layout.TopK];
        Row = new int[maxTokens * layout.TopK];
        Choice = new int[maxTokens * layout.TopK];
        EntryEnd = new int[maxTokens];
        SentTo = new int[layout.Ranks];
        ChoicesOf = new int[layout.Experts];
        TotalRows = new long[layout.Ranks];
        ReceivedFrom = new int[layout.Ranks];
        int locals = placement.ExpertsOf(rank);
        TokensPerExpert = new int[locals];
        ExpertOffsets = new int[locals + 1];
    }

    /// <summary>The buffer whose handles this plan serves.</summary>
    public ExpertBuffer Owner { get; }

    public ExpertPlacement Placement { get; }

    public int TopK { get; }

    /// <summary>The epoch of the dispatch that made it, by which all ranks know it.</summary>
    public long BirthEpoch { get; private set; }

    public RowLayout Layout { get; set; }

    public int Alignment { get; set; }

    public int Tokens { get; set; }

    /// <summary>Entries of token t are [EntryEnd[t - 1], EntryEnd[t]): in order of rank (rank-major) or of choice (expert-major).</summary>
    public int[] EntryEnd { get; }

    /// <summary>By entry: the rank the row goes to.</summary>
    public int[] Destination { get; }

    /// <summary>By entry: the row there. Until the counts of all ranks are known, its ordinal among this rank's rows to there.</summary>
    public int[] Row { get; }

    /// <summary>By entry: which of the token's choices it stands for. Expert-major only.</summary>
    public int[] Choice { get; }

    /// <summary>By rank: rows this rank sends there.</summary>
    public int[] SentTo { get; }

    /// <summary>By expert: this rank's choices of it.</summary>
    public int[] ChoicesOf { get; }

    /// <summary>By rank: rows it receives from all, padding included.</summary>
    public long[] TotalRows { get; }

    /// <summary>By rank: rows this rank receives from there, padding not included.</summary>
    public int[] ReceivedFrom { get; }

    /// <summary>By local expert: choices of all ranks.</summary>
    public int[] TokensPerExpert { get; }

    /// <summary>By local expert: its first row, aligned; then the end. Expert-major only.</summary>
    public int[] ExpertOffsets { get; }

    public int FirstEntryOf(int token) => token == 0 ? 0 : EntryEnd[token - 1];

    /// <summary>Gives the plan to its two first holders: a result and a handle.</summary>
    public void Issue(long birthEpoch)
    {
        BirthEpoch = birthEpoch;
        Volatile.Write(ref _holders, 2);
        Volatile.Write(ref _handleEpoch, birthEpoch);
    }

    public void Hold() => Interlocked.Increment(ref _holders);

    /// <summary>Gives up a hold; the last one returns the plan to its buffer.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref _holders) == 0) Owner.Recycle(this);
    }

    public bool IsHandleOf(long birthEpoch) => Volatile.Read(ref _handleEpoch) == birthEpoch;

    /// <summary>Gives up the handle's hold, once.</summary>
    public void ReleaseHandle(long birthEpoch)
    {
        if (Interlocked.CompareExchange(ref _handleEpoch, 0, birthEpoch) == birthEpoch) Release();
    }
}

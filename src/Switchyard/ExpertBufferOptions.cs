using System.Globalization;
using Switchyard.Arena;
using Switchyard.Topology;

namespace Switchyard;

/// <summary>The shape and the resources of a buffer. All ranks give the same; validated when the buffer is created.</summary>
public sealed record ExpertBufferOptions
{
    /// <summary>Where arenas live and what moves rows, such as <c>CpuBackend.Instance</c>.</summary>
    public required ExpertBackend Backend { get; init; }

    /// <summary>
    /// Experts over all ranks, 1 to <see cref="Limits.MaxExperts"/>. Rank r of R holds experts [⌊rE/R⌋, ⌊(r+1)E/R⌋), unless
    /// <see cref="ExpertRanks"/> places them otherwise.
    /// </summary>
    public required int Experts { get; init; }

    /// <summary>Experts a token chooses at most, 1 to <see cref="Limits.MaxTopK"/> and at most <see cref="Experts"/>.</summary>
    public required int TopK { get; init; }

    /// <summary>Elements of a row, 1 to <see cref="Limits.MaxHidden"/>.</summary>
    public required int Hidden { get; init; }

    /// <summary>Tokens a rank may dispatch in one call, 1 to <see cref="Limits.MaxTokensPerRank"/>; with top-k at most <see cref="Limits.MaxRowsPerPeer"/>.</summary>
    public required int MaxTokensPerRank { get; init; }

    /// <summary>
    /// The element of rows that are combined, and dispatched unless they come as <see cref="ScaledRows"/>: <see cref="ElementType.BFloat16"/>,
    /// <see cref="ElementType.Half"/> or <see cref="ElementType.Single"/>.
    /// </summary>
    public required ElementType Element { get; init; }

    /// <summary>Per expert the rank that holds it; ranks may hold any number, none too. Default: even shares in order.</summary>
    public IReadOnlyList<int>? ExpertRanks { get; init; }

    /// <summary>
    /// Rows a rank may receive in one call; alignment padding comes on top. Default: ranks × <see cref="MaxTokensPerRank"/>, which
    /// rank-major never exceeds, or, if more, 2 × <see cref="MaxTokensPerRank"/> × <see cref="TopK"/>: twice what expert-major brings a rank
    /// on average. Never more than can come at all. With more imbalance than that all ranks get a <see cref="CapacityException"/>.
    /// </summary>
    public int? ReceiveCapacity { get; init; }

    /// <summary>
    /// Bytes of each rank's arena for received rows and results that are alive at the same time. Default: three times what
    /// <see cref="ReceiveCapacity"/> takes: two results, what the experts make of them, and room for the next call's grant.
    /// </summary>
    public long? MemoryBudget { get; init; }

    /// <summary>How long a wait for a peer may take before the buffer breaks. Default 30 s; can be changed on the buffer.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Threads that move this rank's rows, the caller's among them; each rank's own choice. Default: the cores this process may use, divided
    /// by the ranks that may use them too, at least 1. 1 to <see cref="Limits.MaxWorkerThreads"/>.
    /// </summary>
    public int? WorkerThreads { get; init; }

    /// <summary>
    /// The processors, by number, to which the worker threads beside the caller's are bound in turn; each rank's own choice. The caller's
    /// thread stays as it is. Default: not bound.
    /// </summary>
    public IReadOnlyList<int>? CpuAffinity { get; init; }

    /// <summary>
    /// Multiprocessors that a call takes on a device, where it does not say itself; each rank's own choice. Default: one for each
    /// 128 KiB of rows that a rank may send (<see cref="MaxTokensPerRank"/> × the smaller of ranks and <see cref="TopK"/>), at least 4 and at most 24 on
    /// a device of its own, which fill an NVLink; where ranks share a device at most 16 and an even share of it. 1 to an even share
    /// of the device's. A dispatch of more than 65,535 tokens for each takes more. Other backends ignore it.
    /// </summary>
    public int? Multiprocessors { get; init; }

    /// <summary>What a buffer with these options will take, in a group of so many ranks, on each rank. Allocates nothing.</summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public MemoryEstimate EstimateMemory(int ranks)
    {
        ExpertGroup.RequireSize(ranks, nameof(ranks));
        Validate(ranks);
        ArenaLayout layout = LayoutFor(ranks);
        int capacity = ReceiveCapacityFor(ranks);
        return new MemoryEstimate
        {
            ControlBytes = layout.PoolOffset,
            PoolBytes = layout.PoolBytes,
            ReceiveCapacity = capacity,
            ResultBytes = new RegionLayout(capacity, 0, layout.LargestShape).Bytes,
            HandleBytes = sizeof(int) * (long)MaxTokensPerRank * (1 + (3L * TopK)),
            DeviceHandleBytes = Backend.ScaleUp.HandleBytes(this, ExpertsOfARank(ranks)),
        };
    }

    internal void Validate(int ranks)
    {
        Validate();
        if (ExpertRanks is not { } placed) return;
        if (placed.Count != Experts)
            throw new ArgumentException($"ExpertBufferOptions.ExpertRanks places {placed.Count} experts; ExpertBufferOptions.Experts is {Experts}.", nameof(ExpertRanks));
        for (int expert = 0; expert < placed.Count; expert++)
        {
            if ((uint)placed[expert] >= (uint)ranks)
                throw new ArgumentOutOfRangeException(nameof(ExpertRanks), placed[expert], $"ExpertBufferOptions.ExpertRanks[{expert}] must be 0 to {ranks - 1}, a rank of the group.");
        }
    }

    private void Validate()
    {
        if (Backend is null) throw new ArgumentException("ExpertBufferOptions.Backend is null: give CpuBackend.Instance.", nameof(Backend));
        Require(nameof(Experts), Experts, 1, Limits.MaxExperts);
        Require(nameof(TopK), TopK, 1, Math.Min(Limits.MaxTopK, Experts), $" (the limit is {Limits.MaxTopK}, ExpertBufferOptions.Experts is {Experts})");
        Require(nameof(Hidden), Hidden, 1, Limits.MaxHidden);
        Require(nameof(MaxTokensPerRank), MaxTokensPerRank, 1, Math.Min(Limits.MaxTokensPerRank, Limits.MaxRowsPerPeer / TopK));
        if (!Element.IsReducible())
            throw new ArgumentOutOfRangeException(nameof(Element), Element, "ExpertBufferOptions.Element must be BFloat16, Half or Single.");
        if (ReceiveCapacity is { } rows) Require(nameof(ReceiveCapacity), rows, 1, Limits.MaxReceiveRows);
        if (WorkerThreads is { } threads) Require(nameof(WorkerThreads), threads, 1, Limits.MaxWorkerThreads);
        if (Multiprocessors is { } multiprocessors) Require(nameof(Multiprocessors), multiprocessors, 1, int.MaxValue);
        if (CpuAffinity is { } processors) RequireUsable(processors);
        RequireDeadline(Deadline);
    }

    internal static void RequireDeadline(TimeSpan deadline)
    {
        if (deadline <= TimeSpan.Zero || deadline > TimeSpan.FromDays(1))
            throw new ArgumentOutOfRangeException(nameof(Deadline), deadline, "Deadline must be positive and at most a day.");
    }

    internal int ReceiveCapacityFor(int ranks)
    {
        if (ReceiveCapacity is { } rows) return rows;
        long tokens = (long)ranks * MaxTokensPerRank;
        long most = tokens * Math.Min(TopK, ExpertsOfARank(ranks));
        return (int)Math.Min(Limits.MaxReceiveRows, Math.Min(most, Math.Max(tokens, 2L * MaxTokensPerRank * TopK)));
    }

    /// <summary>The most that any rank holds.</summary>
    private int ExpertsOfARank(int ranks) =>
        ExpertRanks is null ? (Experts + ranks - 1) / ranks : ExpertRanks.GroupBy(rank => rank).Max(held => held.Count());

    internal ArenaLayout LayoutFor(int ranks)
    {
        var shape = new ArenaLayout(ranks, Experts, TopK, Hidden, Element, poolBytes: 0);
        long least = new RegionLayout(1, 0, shape.LargestShape).Bytes;
        long budget = MemoryBudget ?? 3 * new RegionLayout(ReceiveCapacityFor(ranks), 0, shape.LargestShape).Bytes;
        if (budget < least || budget > 1L << 46)
        {
            string origin = MemoryBudget is null ? $" Its default is three times what ExpertBufferOptions.ReceiveCapacity = {ReceiveCapacityFor(ranks)} rows take." : "";
            throw new ArgumentOutOfRangeException(nameof(MemoryBudget), budget,
                $"ExpertBufferOptions.MemoryBudget must be {least} bytes (one row) to {1L << 46}.{origin}");
        }
        return new ArenaLayout(ranks, Experts, TopK, Hidden, Element, budget);
    }

    internal ExpertPlacement PlacementFor(int ranks) =>
        ExpertRanks is null ? new ExpertPlacement(Experts, ranks) : new ExpertPlacement([.. ExpertRanks], ranks);

    /// <summary>The threads to use on each rank, where <paramref name="neighbours"/> share its processors.</summary>
    internal int WorkerThreadsFor(int neighbours) =>
        WorkerThreads ?? Math.Clamp(Environment.ProcessorCount / neighbours, 1, Limits.MaxWorkerThreads);

    /// <summary>What all ranks must give alike, a line each.</summary>
    internal string Describe() => string.Create(CultureInfo.InvariantCulture, $"""
        Backend={Backend.Name}
        Experts={Experts}
        TopK={TopK}
        Hidden={Hidden}
        MaxTokensPerRank={MaxTokensPerRank}
        Element={Element}
        ExpertRanks={(ExpertRanks is null ? "default" : string.Join(' ', ExpertRanks))}
        ReceiveCapacity={ReceiveCapacity?.ToString(CultureInfo.InvariantCulture) ?? "default"}
        MemoryBudget={MemoryBudget?.ToString(CultureInfo.InvariantCulture) ?? "default"}
        ArenaVersion={ArenaLayout.Version}
        """);

    private static void RequireUsable(IReadOnlyList<int> processors)
    {
        if (processors.Count == 0) throw new ArgumentException("ExpertBufferOptions.CpuAffinity is empty: name processors, or leave it null.", nameof(CpuAffinity));
        HashSet<int> usable = ProcessorAffinity.Usable();
        foreach (int processor in processors)
        {
            if (!usable.Contains(processor))
            {
                throw new ArgumentOutOfRangeException(nameof(CpuAffinity), processor,
                    $"ExpertBufferOptions.CpuAffinity must name processors that this process may use: {string.Join(", ", usable.Order())}.");
            }
        }
    }

    private static void Require(string option, int value, int least, int most, string because = "")
    {
        if (value < least || value > most)
            throw new ArgumentOutOfRangeException(option, value, $"ExpertBufferOptions.{option} must be {least} to {most}{because}.");
    }
}

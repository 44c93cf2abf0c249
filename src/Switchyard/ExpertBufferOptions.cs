using System.Globalization;
using Switchyard.Arena;

namespace Switchyard;

/// <summary>The shape and the resources of a buffer. All ranks give the same; validated when the buffer is created.</summary>
public sealed record ExpertBufferOptions
{
    /// <summary>Where arenas live and what moves rows, such as <c>CpuBackend.Instance</c>.</summary>
    public required ExpertBackend Backend { get; init; }

    /// <summary>Experts over all ranks, 1 to <see cref="Limits.MaxExperts"/>. Rank r of R holds experts [⌊rE/R⌋, ⌊(r+1)E/R⌋).</summary>
    public required int Experts { get; init; }

    /// <summary>Experts a token chooses at most, 1 to <see cref="Limits.MaxTopK"/> and at most <see cref="Experts"/>.</summary>
    public required int TopK { get; init; }

    /// <summary>Elements of a row, 1 to <see cref="Limits.MaxHidden"/>.</summary>
    public required int Hidden { get; init; }

    /// <summary>Tokens a rank may dispatch in one call, 1 to <see cref="Limits.MaxTokensPerRank"/>; with top-k at most <see cref="Limits.MaxRowsPerPeer"/>.</summary>
    public required int MaxTokensPerRank { get; init; }

    /// <summary>The element of rows: <see cref="ElementType.BFloat16"/> or <see cref="ElementType.Single"/>.</summary>
    public required ElementType Element { get; init; }

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

    internal void Validate()
    {
        if (Backend is null) throw new ArgumentException("ExpertBufferOptions.Backend is null: give CpuBackend.Instance.", nameof(Backend));
        Require(nameof(Experts), Experts, 1, Limits.MaxExperts);
        Require(nameof(TopK), TopK, 1, Math.Min(Limits.MaxTopK, Experts), $" (the limit is {Limits.MaxTopK}, ExpertBufferOptions.Experts is {Experts})");
        Require(nameof(Hidden), Hidden, 1, Limits.MaxHidden);
        Require(nameof(MaxTokensPerRank), MaxTokensPerRank, 1, Math.Min(Limits.MaxTokensPerRank, Limits.MaxRowsPerPeer / TopK));
        if (!Element.IsReducible())
            throw new ArgumentOutOfRangeException(nameof(Element), Element, "ExpertBufferOptions.Element must be BFloat16 or Single.");
        if (ReceiveCapacity is { } rows) Require(nameof(ReceiveCapacity), rows, 1, Limits.MaxReceiveRows);
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
        int expertsOfARank = (Experts + ranks - 1) / ranks;
        long most = tokens * Math.Min(TopK, expertsOfARank);
        return (int)Math.Min(Limits.MaxReceiveRows, Math.Min(most, Math.Max(tokens, 2L * MaxTokensPerRank * TopK)));
    }

    internal ArenaLayout LayoutFor(int ranks)
    {
        var shape = new ArenaLayout(ranks, Experts, TopK, Hidden, Element, poolBytes: 0);
        long least = shape.Region(1, RowLayout.RankMajor).Bytes;
        long budget = MemoryBudget ?? 3 * shape.Region(ReceiveCapacityFor(ranks), RowLayout.RankMajor).Bytes;
        if (budget < least || budget > 1L << 46)
        {
            throw new ArgumentOutOfRangeException(nameof(MemoryBudget), budget,
                $"ExpertBufferOptions.MemoryBudget must be {least} bytes (one row) to {1L << 46}.");
        }
        return new ArenaLayout(ranks, Experts, TopK, Hidden, Element, budget);
    }

    /// <summary>What all ranks must give alike, a line each.</summary>
    internal string Describe() => string.Create(CultureInfo.InvariantCulture, $"""
        Backend={Backend.Name}
        Experts={Experts}
        TopK={TopK}
        Hidden={Hidden}
        MaxTokensPerRank={MaxTokensPerRank}
        Element={Element}
        ReceiveCapacity={ReceiveCapacity?.ToString(CultureInfo.InvariantCulture) ?? "default"}
        MemoryBudget={MemoryBudget?.ToString(CultureInfo.InvariantCulture) ?? "default"}
        ArenaVersion={ArenaLayout.Version}
        """);

    private static void Require(string option, int value, int least, int most, string because = "")
    {
        if (value < least || value > most)
            throw new ArgumentOutOfRangeException(option, value, $"ExpertBufferOptions.{option} must be {least} to {most}{because}.");
    }
}

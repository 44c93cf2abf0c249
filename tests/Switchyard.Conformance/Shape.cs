using Switchyard.Reference;

namespace Switchyard.Conformance;

/// <summary>How random choices fall on experts.</summary>
public enum Routing
{
    Uniform,
    AllToOneExpert,
    NoChoices,
    SomeNone,
}

/// <summary>A shape to exercise, with the options of its dispatches.</summary>
public sealed record Shape(int Ranks, int Experts, int TopK, int Hidden, int MaxTokens, RowLayout Layout, int Alignment, Routing Routing)
{
    /// <summary>Per expert its rank, where the default placement is not used.</summary>
    public int[]? ExpertRanks { get; init; }

    public bool ZeroPadding { get; init; }

    public bool FixedShape { get; init; }

    public bool PreReduce { get; init; }

    public ScaleLayout ScaleLayout { get; init; }

    public int? WorkerThreads { get; init; }

    public DispatchOptions Options => new()
    {
        Layout = Layout,
        ExpertAlignment = Alignment,
        ZeroPadding = ZeroPadding,
        FixedShape = FixedShape,
        PreReduce = PreReduce,
        ScaleLayout = ScaleLayout,
    };

    /// <summary>A random shape that leans towards the odd: prime hidden sizes, fewer experts than ranks, tiny batches, experts anywhere.</summary>
    public static Shape Draw(Random random, int ranks)
    {
        int experts = Pick(random, 1, 2, 3, 5, 8, 16, 37, 80);
        RowLayout layout = random.Next(2) == 0 ? RowLayout.RankMajor : RowLayout.ExpertMajor;
        bool isExpertMajor = layout == RowLayout.ExpertMajor;
        return new Shape(
            ranks,
            experts,
            TopK: Math.Min(experts, Pick(random, 1, 2, 3, 6, 8, 12, Limits.MaxTopK)),
            Hidden: Pick(random, 1, 3, 7, 16, 31, 33, 64, 129, 1000),
            MaxTokens: Pick(random, 1, 2, 5, 17, 40),
            layout,
            Alignment: isExpertMajor ? Pick(random, 1, 1, 2, 4, 7, 16) : 1,
            Pick(random, Routing.Uniform, Routing.Uniform, Routing.SomeNone, Routing.AllToOneExpert, Routing.NoChoices))
        {
            ExpertRanks = random.Next(3) == 0 ? [.. Enumerable.Range(0, experts).Select(_ => random.Next(ranks))] : null,
            ZeroPadding = isExpertMajor && random.Next(2) == 0,
            FixedShape = random.Next(3) == 0,
            PreReduce = isExpertMajor && random.Next(2) == 0,
            ScaleLayout = random.Next(2) == 0 ? ScaleLayout.RowMajor : ScaleLayout.ColumnMajor,
            WorkerThreads = random.Next(2) == 0 ? null : random.Next(1, 4),
        };
    }

    public ReferenceExchange Reference() => new(ExpertRanks ?? ReferenceExchange.EvenShares(Experts, Ranks), Ranks, Options);

    private static T Pick<T>(Random random, params T[] values) => values[random.Next(values.Length)];
}

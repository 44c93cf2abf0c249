namespace Switchyard.Conformance;

/// <summary>What a rank has to run a scenario with.</summary>
/// <param name="Group">Its membership.</param>
/// <param name="Backend">The backend under test.</param>
/// <param name="Seed">The same on all ranks.</param>
public sealed record RankContext(ExpertGroup Group, ExpertBackend Backend, int Seed)
{
    public int Rank => Group.Rank;

    /// <summary>Draws the same on all ranks.</summary>
    public Random SharedRandom() => new(Seed);

    /// <summary>Draws differently on each rank.</summary>
    public Random OwnRandom() => new((Seed * 131) + Rank);

    /// <summary>Makes a buffer; unless told otherwise with room for whatever the shape can bring, eight times.</summary>
    public Task<ExpertBuffer> CreateAsync<T>(Shape shape, int? capacity = null, long? budget = null)
        where T : unmanaged
    {
        int rows = capacity ?? WorstRows(shape);
        return ExpertBuffer.CreateAsync(Group, Options<T>(shape) with { ReceiveCapacity = rows, MemoryBudget = budget ?? (8 * RegionBytes<T>(shape, rows)) });
    }

    /// <summary>What a result of so many rows takes in the pool.</summary>
    public long RegionBytes<T>(Shape shape, int rows)
        where T : unmanaged =>
        Options<T>(shape).LayoutFor(shape.Ranks).Region(rows + ((shape.Alignment - 1) * shape.Experts), RowLayout.RankMajor).Bytes;

    public static int WorstRows(Shape shape) => shape.Ranks * shape.MaxTokens * shape.TopK;

    private ExpertBufferOptions Options<T>(Shape shape)
        where T : unmanaged => new()
        {
            Backend = Backend,
            Experts = shape.Experts,
            TopK = shape.TopK,
            Hidden = shape.Hidden,
            MaxTokensPerRank = shape.MaxTokens,
            Element = typeof(T) == typeof(BFloat16) ? ElementType.BFloat16 : ElementType.Single,
        };
}

/// <summary>A program that all ranks run and that throws where something is wrong. Known by name, so that another process can run it.</summary>
public sealed record Scenario(string Name, Func<RankContext, Task> RunAsync)
{
    public static IReadOnlyDictionary<string, Scenario> All { get; } =
        new[] { ExchangeScenarios.All, TrainingScenarios.All, FaultScenarios.All }.SelectMany(each => each).ToDictionary(each => each.Name);
}

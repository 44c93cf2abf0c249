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

    public Task<ExpertBuffer> CreateAsync<T>(Shape shape, int? capacity = null, long? budget = null)
        where T : unmanaged => ExpertBuffer.CreateAsync(Group, Options<T>(shape) with { ReceiveCapacity = capacity, MemoryBudget = budget });

    public ExpertBufferOptions Options<T>(Shape shape)
        where T : unmanaged => new()
        {
            Backend = Backend,
            Experts = shape.Experts,
            TopK = shape.TopK,
            Hidden = shape.Hidden,
            MaxTokensPerRank = shape.MaxTokens,
            Element = typeof(T) == typeof(BFloat16) ? ElementType.BFloat16 : ElementType.Single,
            ReceiveCapacity = shape.Ranks * shape.MaxTokens * shape.TopK,
        };
}

/// <summary>A program that all ranks run and that throws where something is wrong. Known by name, so that another process can run it.</summary>
public sealed record Scenario(string Name, Func<RankContext, Task> RunAsync)
{
    public static IReadOnlyDictionary<string, Scenario> All { get; } =
        new[] { ExchangeScenarios.All, TrainingScenarios.All, FaultScenarios.All }.SelectMany(each => each).ToDictionary(each => each.Name);
}

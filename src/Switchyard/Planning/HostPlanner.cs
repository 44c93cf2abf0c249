namespace Switchyard.Planning;

/// <summary>Takes a rank's choices into plans, for engines that plan on the host. Keeps a copy of them: the caller's may change.</summary>
internal sealed class HostPlanner(ExpertBufferOptions options)
{
    private readonly ExpertMarks _marks = new(options.Experts);

    /// <summary>The choices that were counted last, tokens × top-k.</summary>
    public int[] Choices { get; } = new int[options.MaxTokensPerRank * options.TopK];

    /// <summary>Checks choices and counts them.</summary>
    /// <exception cref="ArgumentException">A token chooses an expert that there is not, or one twice.</exception>
    public void Count(RoutingPlan plan, ReadOnlyTensorView topkIndices)
    {
        Span<int> choices = Choices.AsSpan(0, plan.Tokens * plan.TopK);
        Arguments.CopyChoices(topkIndices, choices, options);
        RoutingPlanner.Count(plan, choices, _marks);
    }
}

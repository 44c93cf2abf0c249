using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Topology;

namespace Switchyard.MicroBenchmarks.Inputs;

/// <summary>Rank 1 of several, with a random routing that is the same in every run, and that the other ranks have too.</summary>
internal sealed class RoutingInput
{
    public const int TopK = 8;
    public const int Rank = 1;

    private readonly DispatchOptions _options;
    private readonly ExpertMarks _marks;
    private readonly CountMatrix _counts;
    private readonly int[] _bases;
    private readonly int _tokens;

    public RoutingInput(int ranks, int tokens, int experts, int hidden, DispatchOptions options)
    {
        (_options, _tokens) = (options, tokens);
        var layout = new ArenaLayout(ranks, experts, TopK, hidden, ElementType.BFloat16, poolBytes: 0);
        Plan = new RoutingPlan(null!, layout, new ExpertPlacement(experts, ranks), Rank, tokens, receiveCapacity: ranks * tokens * TopK);
        Choices = Choose(tokens, experts);
        _marks = new ExpertMarks(experts);
        _counts = new CountMatrix(ranks, experts);
        _bases = new int[experts];
        Count();
        for (int source = 0; source < ranks; source++)
        {
            Plan.TokensTo.CopyTo(_counts.TokensFrom(source));
            Plan.ChoicesOf.CopyTo(_counts.ChoicesFrom(source));
        }
        _counts.SumFor(Rank);
        RoutingPlanner.Totals(Plan, _counts);
        Resolve();
    }

    public RoutingPlan Plan { get; }

    /// <summary>Tokens × top-k experts, all different within a token; pinned.</summary>
    public int[] Choices { get; }

    public void Count()
    {
        Plan.Begin(_options, _tokens);
        RoutingPlanner.Count(Plan, Choices, _marks);
    }

    /// <summary>Once after each <see cref="Count"/>.</summary>
    public void Resolve() => RoutingPlanner.Resolve(Plan, Rank, _counts, _bases);

    private static int[] Choose(int tokens, int experts)
    {
        var random = new Random(experts);
        int[] all = [.. Enumerable.Range(0, experts)];
        int[] choices = GC.AllocateArray<int>(tokens * TopK, pinned: true);
        for (int token = 0; token < tokens; token++)
        {
            random.Shuffle(all);
            all.AsSpan(0, TopK).CopyTo(choices.AsSpan(token * TopK));
        }
        return choices;
    }
}

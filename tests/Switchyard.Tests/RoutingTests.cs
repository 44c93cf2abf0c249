using CsCheck;
using Switchyard.Planning;
using Switchyard.Topology;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Properties of plans over random routings of all ranks, without any transport.</summary>
public class RoutingTests
{
    private static readonly Gen<Case> _cases =
        from ranks in Gen.Int[1, 9]
        from experts in Gen.Int[1, 20]
        from topK in Gen.Int[1, Math.Min(6, experts)]
        from layout in Gen.Bool.Select(isExpert => isExpert ? RowLayout.ExpertMajor : RowLayout.RankMajor)
        from alignment in layout == RowLayout.ExpertMajor ? Gen.Int[1, 8] : Gen.Const(1)
        from seed in Gen.Int[0, int.MaxValue - 1]
        select new Case(ranks, experts, topK, layout, alignment, seed);

    [Fact]
    public void Every_choice_gets_one_row_and_no_row_is_shared() => _cases.Sample(each =>
    {
        (RoutingPlan[] plans, int[][] choices) = Plan(each);
        var taken = new HashSet<(int Rank, int Row)>();
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            RoutingPlan plan = plans[rank];
            for (int token = 0; token < plan.Tokens; token++)
            {
                int[] chosen = [.. choices[rank].AsSpan(token * each.TopK, each.TopK).ToArray().Where(expert => expert >= 0)];
                int[] destinations = [.. chosen.Select(plan.Placement.RankOf)];
                int first = plan.FirstEntryOf(token), end = plan.EntryEnd[token];
                int[] went = plan.Destination[first..end];
                Assert.Equal(each.Layout == RowLayout.RankMajor ? destinations.Distinct().Order() : destinations, went);
                for (int entry = first; entry < end; entry++)
                {
                    Assert.True(plan.Row[entry] >= 0 && plan.Row[entry] < plan.TotalRows[plan.Destination[entry]]);
                    Assert.True(taken.Add((plan.Destination[entry], plan.Row[entry])), "two tokens share a row");
                }
            }
        }
        long padding = each.Layout == RowLayout.ExpertMajor
            ? plans.Sum(plan => plan.TokensPerExpert.Sum(count => ((count + each.Alignment - 1) / each.Alignment * each.Alignment) - count))
            : 0;
        Assert.Equal(plans[0].TotalRows.Sum(), taken.Count + padding);
        Assert.Equal(plans.Sum(plan => plan.ReceivedFrom.Sum()), taken.Count);
    }, iter: 2000);

    [Fact]
    public void Slots_are_a_function_of_the_routing() => _cases.Sample(each =>
    {
        (RoutingPlan[] once, _) = Plan(each);
        (RoutingPlan[] again, _) = Plan(each);
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            int entries = once[rank].Tokens == 0 ? 0 : once[rank].EntryEnd[once[rank].Tokens - 1];
            Assert.Equal(once[rank].Row[..entries], again[rank].Row[..entries]);
            Assert.Equal(once[0].TotalRows, once[rank].TotalRows);
        }
    }, iter: 300);

    [Fact]
    public void Rows_are_ordered_by_source_then_token_within_a_group() => _cases.Sample(each =>
    {
        (RoutingPlan[] plans, int[][] choices) = Plan(each);
        var last = new Dictionary<(int, int), int>();
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            RoutingPlan plan = plans[rank];
            for (int token = 0; token < plan.Tokens; token++)
            {
                for (int entry = plan.FirstEntryOf(token); entry < plan.EntryEnd[token]; entry++)
                {
                    int group = each.Layout == RowLayout.ExpertMajor ? choices[rank][(token * each.TopK) + plan.Choice[entry]] : -1;
                    (int, int) key = (plan.Destination[entry], group);
                    Assert.True(!last.TryGetValue(key, out int before) || before + 1 == plan.Row[entry]);
                    last[key] = plan.Row[entry];
                }
            }
        }
    }, iter: 1000);

    [Fact]
    public void Experts_are_placed_in_even_shares() =>
        Gen.Select(Gen.Int[1, 300], Gen.Int[1, 64]).Sample((experts, ranks) =>
        {
            var placement = new ExpertPlacement(experts, ranks);
            int[] held = [.. Enumerable.Range(0, ranks).Select(placement.ExpertsOf)];
            Assert.Equal(experts, held.Sum());
            Assert.True(held.Max() - held.Min() <= 1);
            for (int expert = 0; expert < experts; expert++)
            {
                int rank = placement.RankOf(expert);
                Assert.InRange(expert - placement.FirstExpertOf(rank), 0, placement.ExpertsOf(rank) - 1);
            }
        });

    [Fact]
    public void Ranks_of_a_host_are_one_node()
    {
        var topology = new NodeTopology([new(0, "a", 1), new(1, "b", 2), new(2, "a", 3), new(3, "b", 4)]);
        Assert.Equal(2, topology.Nodes);
        Assert.Equal([0, 1, 0, 1], Enumerable.Range(0, 4).Select(topology.NodeOf));
        Assert.Equal([0, 0, 1, 1], Enumerable.Range(0, 4).Select(topology.LocalIndexOf));
        Assert.True(topology.CanMap(0, 2));
        Assert.False(topology.CanMap(0, 1));
    }

    private static (RoutingPlan[] Plans, int[][] Choices) Plan(Case each)
    {
        var random = new Random(each.Seed);
        var placement = new ExpertPlacement(each.Experts, each.Ranks);
        var layout = new Arena.ArenaLayout(each.Ranks, each.Experts, each.TopK, 1, ElementType.Single, 0);
        var counts = new CountMatrix(each.Ranks, each.Experts);
        var plans = new RoutingPlan[each.Ranks];
        var choices = new int[each.Ranks][];
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            int tokens = random.Next(0, 12);
            choices[rank] = [.. Enumerable.Range(0, tokens).SelectMany(_ => Choose(random, each))];
            plans[rank] = new RoutingPlan(null!, layout, placement, rank, 12) { Tokens = tokens, Layout = each.Layout, Alignment = each.Alignment };
            RoutingPlanner.Count(plans[rank], choices[rank], new int[each.Experts]);
            plans[rank].SentTo.CopyTo(counts.RowsFrom(rank));
            plans[rank].ChoicesOf.CopyTo(counts.ChoicesFrom(rank));
        }
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            RoutingPlanner.Totals(plans[rank], counts);
            RoutingPlanner.Resolve(plans[rank], rank, counts, new int[Math.Max(each.Ranks, each.Experts)]);
        }
        return (plans, choices);
    }

    private static int[] Choose(Random random, Case each)
    {
        int[] experts = [.. Enumerable.Range(0, each.Experts)];
        random.Shuffle(experts);
        return [.. experts[..each.TopK].Select(expert => random.Next(4) == 0 ? -1 : expert)];
    }

    private sealed record Case(int Ranks, int Experts, int TopK, RowLayout Layout, int Alignment, int Seed);
}

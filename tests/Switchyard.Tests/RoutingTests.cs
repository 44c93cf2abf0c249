using System.Runtime.CompilerServices;
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
        from preReduce in layout == RowLayout.ExpertMajor ? Gen.Bool : Gen.Const(false)
        from seed in Gen.Int[0, int.MaxValue - 1]
        select new Case(ranks, experts, topK, layout, alignment, preReduce, seed);

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
                int first = plan.Sent.FirstOf(token), end = plan.Sent.End[token];
                int[] went = plan.Sent.Rank[first..end];
                Assert.Equal(each.Layout == RowLayout.RankMajor ? destinations.Distinct().Order() : destinations, went);
                for (int entry = first; entry < end; entry++)
                {
                    Assert.True(plan.Sent.Row[entry] >= 0 && plan.Sent.Row[entry] < plan.TotalRows[plan.Sent.Rank[entry]]);
                    Assert.True(taken.Add((plan.Sent.Rank[entry], plan.Sent.Row[entry])), "two tokens share a row");
                }
            }
        }
        long padding = each.Layout == RowLayout.ExpertMajor
            ? plans.Sum(plan => plan.TokensPerExpert.Sum(count => ((count + each.Alignment - 1) / each.Alignment * each.Alignment) - count))
            : 0;
        Assert.Equal(plans[0].TotalRows.Sum(), taken.Count + padding);
        Assert.Equal(plans.Sum(plan => plan.ReceivedFrom.Sum()), taken.Count);
        if (!each.PreReduce) Assert.Equal(plans[0].TotalRows, plans[0].SummedRows);
    }, iter: 2000);

    [Fact]
    public void Every_token_gets_one_sum_a_rank_and_no_sum_is_shared() => _cases.Where(each => each.PreReduce).Sample(each =>
    {
        (RoutingPlan[] plans, int[][] choices) = Plan(each);
        var taken = new HashSet<(int Rank, int Row)>();
        foreach ((RoutingPlan plan, int[] chosen) in plans.Zip(choices))
        {
            for (int token = 0; token < plan.Tokens; token++)
            {
                IEnumerable<int> ranks = chosen.Skip(token * each.TopK).Take(each.TopK).Where(expert => expert >= 0).Select(plan.Placement.RankOf);
                int first = plan.Summed.FirstOf(token), end = plan.Summed.End[token];
                Assert.Equal(ranks.Distinct().Order(), plan.Summed.Rank[first..end]);
                for (int entry = first; entry < end; entry++)
                {
                    Assert.InRange(plan.Summed.Row[entry], 0, plan.SummedRows[plan.Summed.Rank[entry]] - 1);
                    Assert.True(taken.Add((plan.Summed.Rank[entry], plan.Summed.Row[entry])), "two tokens share a sum");
                }
            }
        }
        Assert.Equal(plans[0].SummedRows.Sum(), taken.Count);
        Assert.All(plans, (plan, rank) =>
        {
            Assert.Equal(plan.SummedRows[rank], plan.TokensFrom.Sum());
            Assert.Equal(plan.SummedRows[rank] * each.TopK, plan.RentGroups().Length);
            int[] groups = plan.Groups;
            plan.RentGroups();
            Assert.Same(groups, plan.Groups);
        });
    }, iter: 1000);

    [Fact]
    public void A_region_has_columns_counts_and_groups_where_the_options_bring_them()
    {
        var layout = new Arena.ArenaLayout(2, 7, 3, 1, ElementType.Single, 0);
        var plan = new RoutingPlan(null!, layout, new ExpertPlacement(7, 2), 0, 1, receiveCapacity: 10);
        (int, int, int) Shape(DispatchOptions options)
        {
            plan.Begin(options, 0);
            Arena.RegionShape shape = plan.ShapeOf(1, layout.Format);
            return (shape.Columns, shape.CountWords, shape.GroupColumns);
        }
        Assert.Equal((3, 0, 0), Shape(default));
        Assert.Equal((3, 10, 0), Shape(new() { FixedShape = true }));
        Assert.Equal((1, 0, 0), Shape(new() { Layout = RowLayout.ExpertMajor }));
        Assert.Equal((1, 10, 3), Shape(new() { Layout = RowLayout.ExpertMajor, FixedShape = true, PreReduce = true }));
    }

    /// <summary>What a rank is told about its experts' rows, against where the ranks send them.</summary>
    [Fact]
    public void Each_experts_rows_lie_where_its_rank_is_told() => _cases.Where(each => each.Layout == RowLayout.ExpertMajor).Sample(each =>
    {
        (RoutingPlan[] plans, int[][] choices) = Plan(each);
        int[] counts = new int[each.Experts];
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            RoutingPlan sender = plans[rank];
            for (int token = 0; token < sender.Tokens; token++)
            {
                for (int entry = sender.Sent.FirstOf(token); entry < sender.Sent.End[token]; entry++)
                {
                    int expert = choices[rank][(token * each.TopK) + sender.Sent.Choice[entry]], local = sender.Placement.LocalIndexOf(expert);
                    RoutingPlan receiver = plans[sender.Sent.Rank[entry]];
                    Assert.Equal(receiver.ExpertOffsets[local] + counts[expert]++, sender.Sent.Row[entry]);
                }
            }
        }
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            Assert.Equal(plans[rank].Placement.ExpertsOf(rank).ToArray().Select(expert => counts[expert]), plans[rank].TokensPerExpert);
            Assert.All(plans[rank].ExpertOffsets, offset => Assert.Equal(0, offset % each.Alignment));
            Assert.Equal(plans[rank].TotalRows[rank], plans[rank].ExpertOffsets[^1]);
        }
    }, iter: 1000);

    [Fact]
    public void A_token_finds_no_mark_of_its_own_however_many_came_before()
    {
        var marks = new ExpertMarks(8);
        for (int token = 0; token < 8; token++)
        {
            if (token == 3) TokenOf(marks) = int.MaxValue - 1;
            Span<int> markOf = marks.BeginToken(out int mark);
            Assert.False(markOf.Contains(mark));
            markOf[token] = mark;
        }
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_token")]
    private static extern ref int TokenOf(ExpertMarks marks);

    [Fact]
    public void Slots_are_a_function_of_the_routing() => _cases.Sample(each =>
    {
        (RoutingPlan[] once, _) = Plan(each);
        (RoutingPlan[] again, _) = Plan(each);
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            int entries = once[rank].Sent.CountOf(once[rank].Tokens);
            Assert.Equal(once[rank].Sent.Row[..entries], again[rank].Sent.Row[..entries]);
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
                for (int entry = plan.Sent.FirstOf(token); entry < plan.Sent.End[token]; entry++)
                {
                    int group = each.Layout == RowLayout.ExpertMajor ? choices[rank][(token * each.TopK) + plan.Sent.Choice[entry]] : -1;
                    (int, int) key = (plan.Sent.Rank[entry], group);
                    Assert.True(!last.TryGetValue(key, out int before) || before + 1 == plan.Sent.Row[entry]);
                    last[key] = plan.Sent.Row[entry];
                }
            }
        }
    }, iter: 1000);

    [Fact]
    public void Experts_are_placed_in_even_shares() =>
        Gen.Select(Gen.Int[1, 300], Gen.Int[1, 64]).Sample((experts, ranks) =>
        {
            var placement = new ExpertPlacement(experts, ranks);
            int[] held = [.. Enumerable.Range(0, ranks).Select(rank => placement.ExpertsOf(rank).Length)];
            Assert.Equal(experts, held.Sum());
            Assert.True(held.Max() - held.Min() <= 1);
            for (int expert = 0; expert < experts; expert++)
            {
                int rank = placement.RankOf(expert);
                Assert.Equal(expert, placement.ExpertsOf(rank)[placement.LocalIndexOf(expert)]);
            }
        });

    [Fact]
    public void Nodes_are_numbered_by_their_lowest_rank()
    {
        // Two containers of one host can be two nodes, and two hosts can have one name: names say nothing.
        var topology = new NodeTopology([new(0, "a", 1), new(1, "a", 2) { Node = 1 }, new(2, "b", 3), new(3, "b", 4) { Node = 1 }]);
        Assert.Equal(2, topology.Nodes);
        Assert.Equal([0, 1, 0, 1], Enumerable.Range(0, 4).Select(topology.NodeOf));
        Assert.Equal([0, 0, 1, 1], Enumerable.Range(0, 4).Select(topology.LocalIndexOf));
        Assert.True(topology.CanMap(0, 2));
        Assert.False(topology.CanMap(0, 1));
    }

    private static (RoutingPlan[] Plans, int[][] Choices) Plan(Case each)
    {
        var random = new Random(each.Seed);
        var placement = random.Next(2) == 0
            ? new ExpertPlacement(each.Experts, each.Ranks)
            : new ExpertPlacement([.. Enumerable.Range(0, each.Experts).Select(_ => random.Next(each.Ranks))], each.Ranks);
        var layout = new Arena.ArenaLayout(each.Ranks, each.Experts, each.TopK, 1, ElementType.Single, 0);
        var counts = new CountMatrix(each.Ranks, each.Experts);
        var plans = new RoutingPlan[each.Ranks];
        var choices = new int[each.Ranks][];
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            int tokens = random.Next(0, 13);
            bool hasGaps = random.Next(2) == 0;
            choices[rank] = [.. Enumerable.Range(0, tokens).SelectMany(_ => Choose(random, each, hasGaps))];
            plans[rank] = new RoutingPlan(null!, layout, placement, rank, 12, receiveCapacity: 1000);
            UseBefore(plans[rank], random, each);
            plans[rank].Begin(new DispatchOptions { Layout = each.Layout, ExpertAlignment = each.Alignment, PreReduce = each.PreReduce }, tokens);
            RoutingPlanner.Count(plans[rank], choices[rank], new ExpertMarks(each.Experts));
            plans[rank].TokensTo.CopyTo(counts.TokensFrom(rank));
            plans[rank].ChoicesOf.CopyTo(counts.ChoicesFrom(rank));
        }
        for (int rank = 0; rank < each.Ranks; rank++)
        {
            counts.SumFor(rank);
            RoutingPlanner.Totals(plans[rank], counts);
            RoutingPlanner.Resolve(plans[rank], rank, counts, new int[each.Experts]);
        }
        return (plans, choices);
    }

    /// <summary>Leaves in the plan what another dispatch did: plans are reused.</summary>
    private static void UseBefore(RoutingPlan plan, Random random, Case each)
    {
        plan.Begin(new DispatchOptions { Layout = each.Layout, ExpertAlignment = each.Alignment, PreReduce = each.PreReduce }, 1);
        RoutingPlanner.Count(plan, Choose(random, each, hasGaps: false), new ExpertMarks(each.Experts));
    }

    private static int[] Choose(Random random, Case each, bool hasGaps)
    {
        int[] experts = [.. Enumerable.Range(0, each.Experts)];
        random.Shuffle(experts);
        return [.. experts[..each.TopK].Select(expert => hasGaps && random.Next(4) == 0 ? -1 : expert)];
    }

    private sealed record Case(int Ranks, int Experts, int TopK, RowLayout Layout, int Alignment, bool PreReduce, int Seed);
}

using System.Numerics;
using Switchyard.Arena;

namespace Switchyard.Planning;

/// <summary>
/// The arithmetic of a plan: first from this rank's choices alone (ordinals), then, once every rank's counts are known, the final rows.
/// Slots are prefixes over ranks and tokens: a pure function of the routing.
/// </summary>
internal static class RoutingPlanner
{
    /// <summary>Takes this rank's choices into the plan: entries, ordinals and counts.</summary>
    /// <param name="plan">Receives them.</param>
    /// <param name="choices">Tokens × top-k experts, -1 for none; checked here.</param>
    /// <param name="marks">Of the buffer.</param>
    public static void Count(RoutingPlan plan, ReadOnlySpan<int> choices, ExpertMarks marks)
    {
        plan.HoldRows();
        Array.Clear(plan.TokensTo);
        Array.Clear(plan.ChoicesOf);
        Span<int> choicesOf = plan.ChoicesOf;
        ReadOnlySpan<int> rankOf = plan.Placement.RankOfEach;
        bool byChoice = plan.Layout == RowLayout.ExpertMajor, byRank = !byChoice || plan.IsPreReduced;
        int choiceEntry = 0, rankEntry = 0;
        for (int token = 0; token < plan.Tokens; token++)
        {
            ReadOnlySpan<int> chosen = choices.Slice(token * plan.TopK, plan.TopK);
            ulong ranks = CountChoices(token, chosen, choicesOf, rankOf, marks);
            if (byChoice) plan.Sent.End[token] = choiceEntry = AddChoices(plan, chosen, choiceEntry);
            if (byRank) plan.Summed.End[token] = rankEntry = AddRanks(plan, ranks, rankEntry);
            for (; ranks != 0; ranks &= ranks - 1) plan.TokensTo[BitOperations.TrailingZeroCount(ranks)]++;
        }
        CountSent(plan);
    }

    /// <summary>Turns ordinals into rows and fills in what this rank receives.</summary>
    /// <param name="plan">A counted plan with its totals.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="counts">What every rank announced, summed.</param>
    /// <param name="bases">An element an expert; overwritten.</param>
    public static void Resolve(RoutingPlan plan, int rank, CountMatrix counts, Span<int> bases)
    {
        if (plan.Layout == RowLayout.ExpertMajor) ResolveChoices(plan, counts, bases);
        if (plan.Layout == RowLayout.RankMajor || plan.IsPreReduced) ResolveRanks(plan, counts);
        Receive(plan, rank, counts);
    }

    /// <summary>Rows and tokens each rank receives, padding included; may exceed what a region can take.</summary>
    public static void Totals(RoutingPlan plan, CountMatrix counts)
    {
        for (int destination = 0; destination < plan.Placement.Ranks; destination++)
        {
            plan.TotalTokens[destination] = counts.TokensOfAll[destination];
            long rows = 0;
            if (plan.Layout == RowLayout.RankMajor) rows = counts.TokensOfAll[destination];
            else foreach (int expert in plan.Placement.ExpertsOf(destination)) rows += Aligned(counts.ChoicesOfAll[expert], plan.Alignment);
            plan.TotalRows[destination] = rows;
        }
    }

    /// <summary>Counts a token's choices; returns the ranks they are on, a bit each.</summary>
    private static ulong CountChoices(int token, ReadOnlySpan<int> chosen, Span<int> choicesOf, ReadOnlySpan<int> rankOf, ExpertMarks marks)
    {
        ulong ranks = 0;
        Span<int> tokenOf = marks.BeginToken(out int mark);
        foreach (int expert in chosen)
        {
            if (expert == -1) continue;
            if ((uint)expert >= (uint)tokenOf.Length)
                throw new ArgumentException($"Token {token} chooses expert {expert}: topkIndices must be -1 or 0 to {tokenOf.Length - 1} (ExpertBufferOptions.Experts).", "topkIndices");
            if (tokenOf[expert] == mark)
                throw new ArgumentException($"Token {token} chooses expert {expert} twice: the experts of a token in topkIndices must differ.", "topkIndices");
            tokenOf[expert] = mark;
            choicesOf[expert]++;
            ranks |= 1UL << rankOf[expert];
        }
        return ranks;
    }

    /// <summary>One entry a choice. Until its rank is filled in, an entry keeps the expert there: an ordinal is unique within that.</summary>
    private static int AddChoices(RoutingPlan plan, ReadOnlySpan<int> chosen, int entry)
    {
        RowEntries entries = plan.Sent;
        for (int k = 0; k < chosen.Length; k++)
        {
            int expert = chosen[k];
            if (expert < 0) continue;
            entries.Rank[entry] = expert;
            entries.Choice[entry] = k;
            entries.Row[entry] = plan.ChoicesOf[expert] - 1;
            entry++;
        }
        return entry;
    }

    /// <summary>One entry a rank, in order of rank: that is the order in which combine adds.</summary>
    private static int AddRanks(RoutingPlan plan, ulong ranks, int entry)
    {
        RowEntries entries = plan.Summed;
        for (; ranks != 0; ranks &= ranks - 1)
        {
            int rank = BitOperations.TrailingZeroCount(ranks);
            entries.Rank[entry] = rank;
            entries.Row[entry] = plan.TokensTo[rank];
            entry++;
        }
        return entry;
    }

    private static void CountSent(RoutingPlan plan)
    {
        for (int rank = 0; rank < plan.SentTo.Length; rank++)
        {
            int rows = 0;
            if (plan.Layout == RowLayout.RankMajor) rows = plan.TokensTo[rank];
            else foreach (int expert in plan.Placement.ExpertsOf(rank)) rows += plan.ChoicesOf[expert];
            plan.SentTo[rank] = rows;
        }
    }

    private static void ResolveRanks(RoutingPlan plan, CountMatrix counts)
    {
        int entries = plan.Summed.CountOf(plan.Tokens);
        int[] ranks = plan.Summed.Rank, rows = plan.Summed.Row;
        for (int entry = 0; entry < entries; entry++) rows[entry] += counts.TokensOfLower[ranks[entry]];
    }

    private static void ResolveChoices(RoutingPlan plan, CountMatrix counts, Span<int> bases)
    {
        for (int destination = 0; destination < plan.Placement.Ranks; destination++)
        {
            int start = 0;
            foreach (int expert in plan.Placement.ExpertsOf(destination))
            {
                bases[expert] = start + counts.ChoicesOfLower[expert];
                start += (int)Aligned(counts.ChoicesOfAll[expert], plan.Alignment);
            }
        }
        int entries = plan.Sent.CountOf(plan.Tokens);
        int[] ranks = plan.Sent.Rank, rows = plan.Sent.Row;
        for (int entry = 0; entry < entries; entry++)
        {
            int expert = ranks[entry];
            rows[entry] += bases[expert];
            ranks[entry] = plan.Placement.RankOf(expert);
        }
    }

    private static void Receive(RoutingPlan plan, int rank, CountMatrix counts)
    {
        ReadOnlySpan<int> experts = plan.Placement.ExpertsOf(rank);
        int start = 0;
        for (int local = 0; local < experts.Length; local++)
        {
            plan.TokensPerExpert[local] = counts.ChoicesOfAll[experts[local]];
            plan.ExpertOffsets[local] = start;
            start += (int)Aligned(plan.TokensPerExpert[local], plan.Alignment);
        }
        plan.ExpertOffsets[^1] = start;
        for (int source = 0; source < plan.Placement.Ranks; source++)
        {
            plan.TokensFrom[source] = counts.TokensFrom(source)[rank];
            plan.ReceivedFrom[source] = plan.Layout == RowLayout.RankMajor
                ? plan.TokensFrom[source]
                : (int)counts.ChoicesBetween(source, rank, plan.Placement);
        }
    }

    private static long Aligned(long rows, int alignment) => ArenaLayout.AlignUp(rows, alignment);
}

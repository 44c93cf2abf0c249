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
    /// <param name="scratch">An element an expert, all zero; left all zero.</param>
    public static void Count(RoutingPlan plan, ReadOnlySpan<int> choices, Span<int> scratch)
    {
        Array.Clear(plan.SentTo);
        Array.Clear(plan.ChoicesOf);
        int entry = 0;
        for (int token = 0; token < plan.Tokens; token++)
        {
            ReadOnlySpan<int> chosen = choices.Slice(token * plan.TopK, plan.TopK);
            CountChoices(plan, token, chosen, scratch);
            entry = plan.Layout == RowLayout.RankMajor ? AddPerRank(plan, chosen, entry) : AddPerChoice(plan, chosen, entry);
            plan.EntryEnd[token] = entry;
        }
    }

    /// <summary>Turns ordinals into rows and fills in what this rank receives.</summary>
    /// <param name="plan">A counted plan.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="counts">What every rank announced.</param>
    /// <param name="bases">An element a rank or an expert, whichever are more; overwritten.</param>
    public static void Resolve(RoutingPlan plan, int rank, CountMatrix counts, Span<int> bases)
    {
        if (plan.Layout == RowLayout.RankMajor) RankBases(plan, rank, counts, bases);
        else ExpertBases(plan, rank, counts, bases);

        int entries = plan.Tokens == 0 ? 0 : plan.EntryEnd[plan.Tokens - 1];
        if (plan.Layout == RowLayout.RankMajor)
        {
            for (int entry = 0; entry < entries; entry++) plan.Row[entry] += bases[plan.Destination[entry]];
        }
        else
        {
            // An expert-major ordinal is unique within its expert; the expert was kept in Destination until now.
            for (int entry = 0; entry < entries; entry++)
            {
                int expert = plan.Destination[entry];
                plan.Row[entry] += bases[expert];
                plan.Destination[entry] = plan.Placement.RankOf(expert);
            }
        }
        Receive(plan, rank, counts);
    }

    /// <summary>Rows each rank receives, padding included; may exceed what a region can take.</summary>
    public static void Totals(RoutingPlan plan, CountMatrix counts)
    {
        for (int destination = 0; destination < plan.Placement.Ranks; destination++)
        {
            long total = 0;
            if (plan.Layout == RowLayout.RankMajor)
            {
                for (int source = 0; source < plan.Placement.Ranks; source++) total += counts.Rows(source, destination);
            }
            else
            {
                int first = plan.Placement.FirstExpertOf(destination);
                for (int local = 0; local < plan.Placement.ExpertsOf(destination); local++)
                    total += Aligned(counts.ChoicesOfAll(first + local), plan.Alignment);
            }
            plan.TotalRows[destination] = total;
        }
    }

    private static void CountChoices(RoutingPlan plan, int token, ReadOnlySpan<int> chosen, Span<int> seen)
    {
        for (int k = 0; k < chosen.Length; k++)
        {
            int expert = chosen[k];
            if (expert == -1) continue;
            if ((uint)expert >= (uint)seen.Length)
                throw Rejected(seen, chosen[..k], $"Token {token} chooses expert {expert}: topkIndices must be -1 or 0 to {seen.Length - 1} (ExpertBufferOptions.Experts).");
            if (seen[expert] != 0)
                throw Rejected(seen, chosen[..k], $"Token {token} chooses expert {expert} twice: the experts of a token in topkIndices must differ.");
            seen[expert] = 1;
            plan.ChoicesOf[expert]++;
        }
        Unmark(seen, chosen);
    }

    private static ArgumentException Rejected(Span<int> seen, ReadOnlySpan<int> marked, string message)
    {
        Unmark(seen, marked);
        return new ArgumentException(message, "topkIndices");
    }

    private static void Unmark(Span<int> seen, ReadOnlySpan<int> marked)
    {
        foreach (int expert in marked)
        {
            if (expert >= 0) seen[expert] = 0;
        }
    }

    /// <summary>One entry a destination rank, in order of rank: that is the order in which combine adds.</summary>
    private static int AddPerRank(RoutingPlan plan, ReadOnlySpan<int> chosen, int entry)
    {
        int first = entry;
        foreach (int expert in chosen)
        {
            if (expert < 0) continue;
            int destination = plan.Placement.RankOf(expert);
            int at = entry;
            while (at > first && plan.Destination[at - 1] > destination) at--;
            if (at > first && plan.Destination[at - 1] == destination) continue;
            for (int move = entry; move > at; move--) plan.Destination[move] = plan.Destination[move - 1];
            plan.Destination[at] = destination;
            entry++;
        }
        for (int each = first; each < entry; each++) plan.Row[each] = plan.SentTo[plan.Destination[each]]++;
        return entry;
    }

    private static int AddPerChoice(RoutingPlan plan, ReadOnlySpan<int> chosen, int entry)
    {
        for (int k = 0; k < chosen.Length; k++)
        {
            int expert = chosen[k];
            if (expert < 0) continue;
            plan.Destination[entry] = expert;
            plan.Choice[entry] = k;
            plan.Row[entry] = plan.ChoicesOf[expert] - 1;
            plan.SentTo[plan.Placement.RankOf(expert)]++;
            entry++;
        }
        return entry;
    }

    private static void RankBases(RoutingPlan plan, int rank, CountMatrix counts, Span<int> bases)
    {
        for (int destination = 0; destination < plan.Placement.Ranks; destination++)
        {
            int lower = 0;
            for (int source = 0; source < rank; source++) lower += counts.Rows(source, destination);
            bases[destination] = lower;
        }
    }

    private static void ExpertBases(RoutingPlan plan, int rank, CountMatrix counts, Span<int> bases)
    {
        for (int destination = 0; destination < plan.Placement.Ranks; destination++)
        {
            int start = 0;
            int first = plan.Placement.FirstExpertOf(destination);
            for (int expert = first; expert < first + plan.Placement.ExpertsOf(destination); expert++)
            {
                int lower = 0;
                for (int source = 0; source < rank; source++) lower += counts.Choices(source, expert);
                bases[expert] = start + lower;
                start += (int)Aligned(counts.ChoicesOfAll(expert), plan.Alignment);
            }
        }
    }

    private static void Receive(RoutingPlan plan, int rank, CountMatrix counts)
    {
        int first = plan.Placement.FirstExpertOf(rank);
        int start = 0;
        for (int local = 0; local < plan.TokensPerExpert.Length; local++)
        {
            plan.TokensPerExpert[local] = (int)counts.ChoicesOfAll(first + local);
            plan.ExpertOffsets[local] = start;
            start += (int)Aligned(plan.TokensPerExpert[local], plan.Alignment);
        }
        plan.ExpertOffsets[^1] = start;
        for (int source = 0; source < plan.Placement.Ranks; source++) plan.ReceivedFrom[source] = counts.Rows(source, rank);
    }

    private static long Aligned(long rows, int alignment) => Arena.ArenaLayout.AlignUp(rows, alignment);
}

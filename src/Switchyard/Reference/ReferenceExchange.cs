namespace Switchyard.Reference;

/// <summary>What one rank brings to a dispatch.</summary>
/// <typeparam name="T">The element type.</typeparam>
/// <param name="X">Tokens × hidden.</param>
/// <param name="Choices">Tokens × top-k experts, -1 for none.</param>
/// <param name="Weights">Tokens × top-k.</param>
public sealed record ReferenceTokens<T>(T[][] X, int[][] Choices, float[][] Weights);

/// <summary>One received row.</summary>
/// <typeparam name="T">The element type.</typeparam>
/// <param name="Elements">Hidden elements; null for alignment padding, whose content is not specified.</param>
/// <param name="Source">Where it came from; -1, -1 for padding.</param>
/// <param name="Indices">Per column the local expert or -1.</param>
/// <param name="Weights">Per column the weight or 0.</param>
public sealed record ReferenceRow<T>(T[]? Elements, RowSource Source, int[] Indices, float[] Weights);

/// <summary>
/// Dispatch and combine of all ranks at once, in the plainest way: what every backend is held against. No speed is meant.
/// </summary>
/// <param name="expertRanks">Per expert the rank that holds it.</param>
/// <param name="ranks">The ranks.</param>
/// <param name="options">Layout, alignment and pre-reduction; the rest does not change what is received.</param>
public sealed class ReferenceExchange(int[] expertRanks, int ranks, DispatchOptions options)
{
    /// <summary>The rank of each expert where none is given: rank r of R holds experts [⌊rE/R⌋, ⌊(r+1)E/R⌋).</summary>
    public static int[] EvenShares(int experts, int ranks) =>
        [.. Enumerable.Range(0, ranks).SelectMany(rank => Enumerable.Repeat(rank, ShareEnd(rank, experts, ranks) - ShareEnd(rank - 1, experts, ranks)))];

    /// <summary>The rank that holds an expert.</summary>
    public int RankOf(int expert) => expertRanks[expert];

    /// <summary>The experts of a rank, by local index.</summary>
    public int[] ExpertsOf(int rank) => [.. Enumerable.Range(0, expertRanks.Length).Where(expert => expertRanks[expert] == rank)];

    /// <summary>The rows each rank receives.</summary>
    /// <param name="tokens">What each rank brings.</param>
    public List<ReferenceRow<T>>[] Dispatch<T>(ReferenceTokens<T>[] tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        var received = new List<ReferenceRow<T>>[ranks];
        for (int rank = 0; rank < ranks; rank++)
            received[rank] = options.Layout == RowLayout.RankMajor ? RankMajor(tokens, rank) : ExpertMajor(tokens, rank);
        return received;
    }

    /// <summary>The sums each rank's tokens get.</summary>
    /// <param name="tokens">What each rank brought to the dispatch.</param>
    /// <param name="received">What each rank received in it.</param>
    /// <param name="results">Per rank and received row, hidden elements.</param>
    /// <param name="hidden">Elements of a row.</param>
    /// <param name="biases">Per rank, what is added to its tokens' sums: each tokens × hidden.</param>
    /// <param name="choiceWeights">Per rank and token, what the contribution of each choice is multiplied by; null for nothing.</param>
    /// <typeparam name="TRow">The element type of what was dispatched.</typeparam>
    /// <typeparam name="TElement">The element type of results and sums.</typeparam>
    public TElement[][][] Combine<TRow, TElement>(
        ReferenceTokens<TRow>[] tokens,
        List<ReferenceRow<TRow>>[] received,
        TElement[][][] results,
        int hidden,
        TElement[][][][]? biases = null,
        float[][][]? choiceWeights = null)
        where TElement : struct
    {
        ArgumentNullException.ThrowIfNull(tokens);
        ArgumentNullException.ThrowIfNull(received);
        ArgumentNullException.ThrowIfNull(results);
        var sums = new TElement[ranks][][];
        for (int rank = 0; rank < ranks; rank++)
        {
            sums[rank] = new TElement[tokens[rank].X.Length][];
            for (int token = 0; token < sums[rank].Length; token++)
            {
                (int Rank, int Row, int Choice)[] rows = [.. RowsOf(tokens, received, rank, token)];
                List<(TElement[] Row, float? Weight)> terms = options.PreReduce
                    ? [.. rows.GroupBy(at => at.Rank).OrderBy(group => group.Key).Select(group => (Sum([.. group.Select(at => (results[at.Rank][at.Row], (float?)null))], hidden), (float?)null))]
                    : [.. rows.Select(at => (results[at.Rank][at.Row], choiceWeights?[rank][token][at.Choice]))];
                foreach (TElement[][] bias in biases?[rank] ?? []) terms.Add((bias[token], null));
                sums[rank][token] = Sum(terms, hidden);
            }
        }
        return sums;
    }

    /// <summary>The weights that come back to each rank's choices.</summary>
    /// <param name="tokens">What each rank brought to the dispatch.</param>
    /// <param name="received">What each rank received in it.</param>
    /// <param name="weights">Per rank, row and column.</param>
    public float[][][] CombineWeights<T>(ReferenceTokens<T>[] tokens, List<ReferenceRow<T>>[] received, float[][][] weights)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        ArgumentNullException.ThrowIfNull(received);
        ArgumentNullException.ThrowIfNull(weights);
        var reduced = new float[ranks][][];
        for (int rank = 0; rank < ranks; rank++)
        {
            reduced[rank] = new float[tokens[rank].X.Length][];
            for (int token = 0; token < reduced[rank].Length; token++)
            {
                var sum = new float[tokens[rank].Choices[token].Length];
                foreach ((int owner, int row, int choice) in RowsOf(tokens, received, rank, token))
                {
                    if (options.Layout == RowLayout.ExpertMajor) sum[choice] = weights[owner][row][0];
                    else for (int k = 0; k < sum.Length; k++) sum[k] += weights[owner][row][k];
                }
                reduced[rank][token] = sum;
            }
        }
        return reduced;
    }

    /// <summary>The rows of a token in the order in which they are added: by rank, or by choice.</summary>
    private IEnumerable<(int Rank, int Row, int Choice)> RowsOf<T>(
        ReferenceTokens<T>[] tokens, List<ReferenceRow<T>>[] received, int source, int token)
    {
        var origin = new RowSource(source, token);
        if (options.Layout == RowLayout.RankMajor)
        {
            for (int rank = 0; rank < ranks; rank++)
            {
                int row = received[rank].FindIndex(each => each.Source == origin);
                if (row >= 0) yield return (rank, row, -1);
            }
            yield break;
        }
        int[] choices = tokens[source].Choices[token];
        for (int k = 0; k < choices.Length; k++)
        {
            if (choices[k] < 0) continue;
            int rank = RankOf(choices[k]);
            int local = LocalIndexOf(choices[k]);
            yield return (rank, received[rank].FindIndex(each => each.Source == origin && each.Indices[0] == local), k);
        }
    }

    private List<ReferenceRow<T>> RankMajor<T>(ReferenceTokens<T>[] tokens, int rank)
    {
        var rows = new List<ReferenceRow<T>>();
        for (int source = 0; source < ranks; source++)
        {
            for (int token = 0; token < tokens[source].X.Length; token++)
            {
                int[] choices = tokens[source].Choices[token];
                bool[] isHere = [.. choices.Select(expert => expert >= 0 && RankOf(expert) == rank)];
                if (!isHere.Contains(true)) continue;
                rows.Add(new ReferenceRow<T>(
                    tokens[source].X[token],
                    new RowSource(source, token),
                    [.. choices.Select((expert, k) => isHere[k] ? LocalIndexOf(expert) : -1)],
                    [.. tokens[source].Weights[token].Select((weight, k) => isHere[k] ? weight : 0)]));
            }
        }
        return rows;
    }

    private List<ReferenceRow<T>> ExpertMajor<T>(ReferenceTokens<T>[] tokens, int rank)
    {
        var rows = new List<ReferenceRow<T>>();
        foreach (int expert in ExpertsOf(rank))
        {
            for (int source = 0; source < ranks; source++)
            {
                for (int token = 0; token < tokens[source].X.Length; token++)
                {
                    int k = Array.IndexOf(tokens[source].Choices[token], expert);
                    if (k < 0) continue;
                    rows.Add(new ReferenceRow<T>(
                        tokens[source].X[token], new RowSource(source, token), [LocalIndexOf(expert)], [tokens[source].Weights[token][k]]));
                }
            }
            while (rows.Count % options.ExpertAlignment != 0) rows.Add(new ReferenceRow<T>(null, new RowSource(-1, -1), [-1], [0]));
        }
        return rows;
    }

    private int LocalIndexOf(int expert) => Array.IndexOf(ExpertsOf(RankOf(expert)), expert);

    private static int ShareEnd(int rank, int experts, int ranks) => (int)((rank + 1L) * experts / ranks);

    /// <summary>The terms in order, in single precision, the first starting the sum; rounded once.</summary>
    private static T[] Sum<T>(List<(T[] Row, float? Weight)> terms, int hidden)
        where T : struct
    {
        var sum = new T[hidden];
        if (terms.Count == 0) return sum;
        for (int i = 0; i < hidden; i++)
        {
            float total = Term(terms[0], i);
            for (int term = 1; term < terms.Count; term++) total += Term(terms[term], i);
            sum[i] = FromSingle<T>(total);
        }
        return sum;
    }

    private static float Term<T>((T[] Row, float? Weight) term, int i) => term.Weight is { } weight ? ToSingle(term.Row[i]) * weight : ToSingle(term.Row[i]);

    private static float ToSingle<T>(T value) => value switch
    {
        BFloat16 number => number.ToSingle(),
        Half number => (float)number,
        _ => (float)(object)value!,
    };

    private static T FromSingle<T>(float value) =>
        typeof(T) == typeof(BFloat16) ? (T)(object)BFloat16.FromSingle(value) :
        typeof(T) == typeof(Half) ? (T)(object)(Half)value : (T)(object)value;
}

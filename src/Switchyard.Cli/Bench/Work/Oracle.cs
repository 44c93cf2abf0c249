namespace Switchyard.Cli.Bench.Work;

/// <summary>
/// Holds what a rank got against what the documented rules say it must get, bit for bit, with nothing of the library's but its views.
/// Each check returns null, or the first difference.
/// </summary>
internal sealed class Oracle(Workload workload, int rank)
{
    private readonly List<ExpectedRow> _expected = ExpectedRow.ListOf(workload, rank);
    private readonly Experts _experts = new(workload);
    private readonly byte[] _row = new byte[workload.Shape.RowBytes];
    private readonly byte[] _scales = new byte[workload.Scales * sizeof(float)];

    /// <summary>Checks rows, where they came from, indices, weights and counts.</summary>
    public string? CheckReceived(in Received received)
    {
        if (received.RowCount != _expected.Count)
            return $"{received.RowCount} rows instead of {_expected.Count}";
        for (int row = 0; row < _expected.Count; row++)
        {
            ExpectedRow expected = _expected[row];
            if (received.Sources[row] != expected.Source)
                return $"row {row} comes from {received.Sources[row]} instead of {expected.Source}";
            workload.DrawArriving(expected.Source.Rank, expected.Source.Token, _row, _scales);
            if (FirstDifference(_row, RowElement.RowOf(received.Rows, row)) is { } at)
                return $"row {row}, of {expected.Source}, differs in byte {at}";
            if (CheckScales(received, row) is { } scale)
                return scale;
            if (CheckChoices(received, row, expected) is { } difference)
                return difference;
        }
        return CheckPadding(received) ?? CheckCounts(received);
    }

    /// <summary>Makes the experts' results of the received rows.</summary>
    public void ApplyExperts(in Received received, TensorView results)
    {
        for (int row = 0; row < _expected.Count; row++)
            _experts.Apply(_expected[row].Destination, RowElement.RowOf(received.Rows, row), RowElement.RowOf(results, row));
    }

    /// <summary>
    /// Checks the sums of the experts' results: added in single precision, in the documented order, the first one starting the sum,
    /// rounded once.
    /// </summary>
    public string? CheckCombined(TensorView output)
    {
        float[] sum = new float[workload.Shape.Hidden], addend = new float[workload.Shape.Hidden];
        byte[] result = new byte[workload.Shape.ResultRowBytes];
        for (int token = 0; token < workload.Shape.Tokens; token++)
        {
            bool isFirst = true;
            Array.Clear(sum);
            workload.DrawArriving(rank, token, _row, _scales);
            foreach (Destination destination in workload.DestinationsOf(rank, token))
            {
                _experts.Apply(destination, _row, result);
                workload.Element.Result.ToSingle(result, isFirst ? sum : addend);
                for (int i = 0; i < sum.Length && !isFirst; i++)
                    sum[i] += addend[i];
                isFirst = false;
            }
            workload.Element.Result.FromSingle(sum, result);
            if (FirstDifference(result, RowElement.RowOf(output, token)) is { } at)
                return $"the sum of token {token} differs in byte {at}";
        }
        return null;
    }

    /// <summary>
    /// Rank-major rows carry all of the token's choices, those elsewhere as -1 and weight 0; expert-major rows the one that they stand
    /// for.
    /// </summary>
    private string? CheckChoices(in Received received, int row, ExpectedRow expected)
    {
        (int source, int token) = expected.Source;
        ReadOnlySpan<int> choices = workload.ChoicesOf(source, token);
        Span<float> weights = stackalloc float[choices.Length];
        Workload.DrawWeights(source, token, weights);
        int choice = expected.Destination.Choice;
        if (choice >= 0)
        {
            choices = choices.Slice(choice, 1);
            weights = weights.Slice(choice, 1);
        }
        for (int column = 0; column < choices.Length; column++)
        {
            bool isHere = workload.RankOf(choices[column]) == rank;
            int at = (row * choices.Length) + column;
            int index = isHere ? choices[column] - workload.FirstExpertOf(rank) : -1;
            if (received.TopkIndices[at] != index)
                return $"row {row} has index {received.TopkIndices[at]} instead of {index} in column {column}";
            // Not by ==, for which a NaN would have to be a difference of its own.
            if (!received.TopkWeights[at].Equals(isHere ? weights[column] : 0))
                return $"row {row} has weight {received.TopkWeights[at]} instead of {(isHere ? weights[column] : 0)} in column {column}";
        }
        return null;
    }

    private string? CheckScales(in Received received, int row)
    {
        if (workload.Scales == 0)
            return received.Scales.IsAbsent ? null : "there are scales that nobody sent";
        return FirstDifference(_scales, RowElement.RowOf(received.Scales, row)) is { } at ? $"the scales of row {row} differ in byte {at}" : null;
    }

    /// <summary>Behind the rows that came, nothing may look like one.</summary>
    private static string? CheckPadding(in Received received)
    {
        int columns = received.TopkIndices.Length / Math.Max(1, received.Sources.Length), choices = received.RowCount * columns;
        if (received.Sources[received.RowCount..].IndexOfAnyExcept(new RowSource(-1, -1)) is >= 0 and var source)
            return $"row {received.RowCount + source} of the padding comes from {received.Sources[received.RowCount + source]}";
        return received.TopkIndices[choices..].ContainsAnyExcept(-1) || received.TopkWeights[choices..].ContainsAnyExcept(0)
            ? "rows of the padding have choices"
            : null;
    }

    private string? CheckCounts(in Received received)
    {
        for (int source = 0; source < received.RowsPerSource.Length; source++)
        {
            if (received.RowsPerSource[source] != workload.Rows[source][rank])
                return $"{received.RowsPerSource[source]} rows of rank {source} counted instead of {workload.Rows[source][rank]}";
        }
        int[] chosen = new int[workload.Shape.Experts];
        for (int source = 0; source < workload.Shape.Ranks; source++)
        {
            foreach (int expert in workload.ChoicesOf(source).Where(expert => expert >= 0))
                chosen[expert]++;
        }
        ReadOnlySpan<int> mine = chosen.AsSpan(workload.FirstExpertOf(rank)..workload.FirstExpertOf(rank + 1));
        return received.TokensPerExpert.SequenceEqual(mine) ? null : "the tokens per expert are counted wrong";
    }

    private static int? FirstDifference(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual)
    {
        int common = expected.CommonPrefixLength(actual);
        return common == expected.Length && common == actual.Length ? null : common;
    }
}

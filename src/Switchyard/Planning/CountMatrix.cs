namespace Switchyard.Planning;

/// <summary>Every rank's counts of one dispatch: rows from each rank to each, and each rank's choices of each expert.</summary>
internal sealed class CountMatrix(int ranks, int experts)
{
    private readonly int[] _rows = new int[ranks * ranks];
    private readonly int[] _choices = new int[ranks * experts];

    public Span<int> RowsFrom(int source) => _rows.AsSpan(source * ranks, ranks);

    public Span<int> ChoicesFrom(int source) => _choices.AsSpan(source * experts, experts);

    public int Rows(int source, int destination) => _rows[(source * ranks) + destination];

    public int Choices(int source, int expert) => _choices[(source * experts) + expert];

    public long ChoicesOfAll(int expert)
    {
        long sum = 0;
        for (int source = 0; source < ranks; source++) sum += Choices(source, expert);
        return sum;
    }
}

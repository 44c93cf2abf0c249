namespace Switchyard.Topology;

/// <summary>
/// Which rank holds which expert: by default rank r of R holds experts [⌊rE/R⌋, ⌊(r+1)E/R⌋). On its rank an expert is known by its
/// local index, in ascending order of experts.
/// </summary>
internal sealed class ExpertPlacement
{
    private readonly int[] _rankOf;
    private readonly int[] _localOf;
    private readonly int[][] _expertsOf;

    public ExpertPlacement(int experts, int ranks)
        : this(EvenShares(experts, ranks), ranks)
    {
    }

    /// <param name="rankOf">The rank of each expert.</param>
    /// <param name="ranks">The ranks; some may hold no expert.</param>
    public ExpertPlacement(int[] rankOf, int ranks)
    {
        _rankOf = rankOf;
        _localOf = new int[rankOf.Length];
        var experts = new List<int>[ranks];
        for (int rank = 0; rank < ranks; rank++) experts[rank] = [];
        for (int expert = 0; expert < rankOf.Length; expert++)
        {
            List<int> held = experts[rankOf[expert]];
            _localOf[expert] = held.Count;
            held.Add(expert);
        }
        _expertsOf = [.. experts.Select(held => held.ToArray())];
    }

    public int Experts => _rankOf.Length;

    public int Ranks => _expertsOf.Length;

    public int RankOf(int expert) => _rankOf[expert];

    /// <summary>By expert: its rank.</summary>
    public ReadOnlySpan<int> RankOfEach => _rankOf;

    public int LocalIndexOf(int expert) => _localOf[expert];

    /// <summary>The experts of a rank, ascending, by local index.</summary>
    public ReadOnlySpan<int> ExpertsOf(int rank) => _expertsOf[rank];

    private static int[] EvenShares(int experts, int ranks)
    {
        int[] rankOf = new int[experts];
        for (int rank = 0; rank < ranks; rank++)
        {
            int first = (int)((long)rank * experts / ranks), end = (int)(((long)rank + 1) * experts / ranks);
            rankOf.AsSpan(first..end).Fill(rank);
        }
        return rankOf;
    }
}

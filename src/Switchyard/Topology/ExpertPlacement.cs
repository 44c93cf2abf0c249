namespace Switchyard.Topology;

/// <summary>Which rank holds which expert: rank r of R holds experts [⌊rE/R⌋, ⌊(r+1)E/R⌋).</summary>
internal sealed class ExpertPlacement
{
    private readonly int[] _rankOf;
    private readonly int[] _firstOf;

    public ExpertPlacement(int experts, int ranks)
    {
        _rankOf = new int[experts];
        _firstOf = new int[ranks + 1];
        for (int rank = 0; rank <= ranks; rank++) _firstOf[rank] = (int)((long)rank * experts / ranks);
        for (int rank = 0; rank < ranks; rank++) _rankOf.AsSpan(_firstOf[rank].._firstOf[rank + 1]).Fill(rank);
    }

    public int Experts => _rankOf.Length;

    public int Ranks => _firstOf.Length - 1;

    public int RankOf(int expert) => _rankOf[expert];

    public int FirstExpertOf(int rank) => _firstOf[rank];

    public int ExpertsOf(int rank) => _firstOf[rank + 1] - _firstOf[rank];
}

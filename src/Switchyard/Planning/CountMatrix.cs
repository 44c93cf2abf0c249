using System.Numerics;
using Switchyard.Topology;

namespace Switchyard.Planning;

/// <summary>Every rank's counts of one dispatch: tokens from each rank that have rows on each, and each rank's choices of each expert.</summary>
internal sealed class CountMatrix(int ranks, int experts)
{
    private readonly int[] _tokens = new int[ranks * ranks];
    private readonly int[] _choices = new int[ranks * experts];

    /// <summary>By rank: tokens of all that have rows there.</summary>
    public int[] TokensOfAll { get; } = new int[ranks];

    /// <summary>By rank: the same of the ranks below the one that summed.</summary>
    public int[] TokensOfLower { get; } = new int[ranks];

    /// <summary>By expert: choices of all ranks.</summary>
    public int[] ChoicesOfAll { get; } = new int[experts];

    /// <summary>By expert: the same of the ranks below the one that summed.</summary>
    public int[] ChoicesOfLower { get; } = new int[experts];

    public Span<int> TokensFrom(int source) => _tokens.AsSpan(source * ranks, ranks);

    public Span<int> ChoicesFrom(int source) => _choices.AsSpan(source * experts, experts);

    /// <summary>Forms the sums, once every rank's counts are in.</summary>
    public void SumFor(int rank)
    {
        Array.Clear(TokensOfAll);
        Array.Clear(ChoicesOfAll);
        for (int source = 0; source < ranks; source++)
        {
            if (source == rank)
            {
                TokensOfAll.CopyTo(TokensOfLower, 0);
                ChoicesOfAll.CopyTo(ChoicesOfLower, 0);
            }
            Add(TokensFrom(source), TokensOfAll);
            Add(ChoicesFrom(source), ChoicesOfAll);
        }
    }

    /// <summary>Choices that a rank made of all the experts of another.</summary>
    public long ChoicesBetween(int source, int destination, ExpertPlacement placement)
    {
        long sum = 0;
        ReadOnlySpan<int> choices = ChoicesFrom(source);
        foreach (int expert in placement.ExpertsOf(destination)) sum += choices[expert];
        return sum;
    }

    private static void Add(ReadOnlySpan<int> addend, Span<int> sum)
    {
        int i = 0;
        for (; i <= sum.Length - Vector<int>.Count; i += Vector<int>.Count)
            (new Vector<int>(sum[i..]) + new Vector<int>(addend[i..])).CopyTo(sum[i..]);
        for (; i < sum.Length; i++) sum[i] += addend[i];
    }
}

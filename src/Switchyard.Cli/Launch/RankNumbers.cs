namespace Switchyard.Cli.Launch;

/// <summary>Ranks in words: "rank 3", "ranks 0, 2-63".</summary>
internal static class RankNumbers
{
    public static string Of(IEnumerable<int> ranks)
    {
        int[] sorted = [.. ranks.Order()];
        var runs = new List<string>();
        for (int first = 0, last; first < sorted.Length; first = last + 1)
        {
            last = first;
            while (last + 1 < sorted.Length && sorted[last + 1] == sorted[last] + 1)
                last++;
            runs.Add(last - first < 2 ? string.Join(", ", sorted[first..(last + 1)]) : $"{sorted[first]}-{sorted[last]}");
        }
        return $"{(sorted.Length == 1 ? "rank" : "ranks")} {string.Join(", ", runs)}";
    }
}

using System.Globalization;

namespace Switchyard.Cli.Bench;

/// <summary>
/// Choices from a text file: a token a line, top-k experts separated by blanks, -1 for none. A short file is used again from its start.
/// </summary>
internal sealed class FileRouting : Routing
{
    private readonly List<int[]> _lines;

    private FileRouting(List<int[]> lines) => _lines = lines;

    public static FileRouting Read(string path, int experts, int topK)
    {
        try
        {
            List<int[]> lines = [.. File.ReadLines(path).Select((line, i) => Parse(line, $"{path}, line {i + 1}", experts, topK))];
            return lines.Count > 0 ? new FileRouting(lines) : throw new UsageException($"--routing: {path} has no line.");
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException($"--routing: cannot read '{path}': {failure.Message}");
        }
    }

    public override void Choose(ref SplitMix random, long index, Span<int> choices) => _lines[(int)(index % _lines.Count)].CopyTo(choices);

    private static int[] Parse(string line, string where, int experts, int topK)
    {
        string[] words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        if (words.Length != topK)
            throw new UsageException($"{where}: {words.Length} experts, but --top-k is {topK}.");
        int[] choices = [.. words.Select(word => Expert(word, where, experts))];
        foreach (int choice in choices)
        {
            if (choice >= 0 && choices.Count(other => other == choice) > 1)
                throw new UsageException($"{where}: expert {choice} twice.");
        }
        return choices;
    }

    private static int Expert(string word, string where, int experts) =>
        int.TryParse(word, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int expert) && expert >= -1 && expert < experts
            ? expert
            : throw new UsageException($"{where}: '{word}' is not an expert from 0 to {experts - 1}, nor -1 for none.");
}

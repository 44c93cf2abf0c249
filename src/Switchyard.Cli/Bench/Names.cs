using System.Globalization;

namespace Switchyard.Cli.Bench;

/// <summary>Reads option values that are names, numbers or lists of them; errors name the option, the value and the choices.</summary>
internal static class Names
{
    public const string Cpu = "cpu";
    public const string Cuda = "cuda";

    public static IReadOnlyDictionary<string, RowLayout> Layouts { get; } = new Dictionary<string, RowLayout>
    {
        ["rank"] = RowLayout.RankMajor,
        ["expert"] = RowLayout.ExpertMajor,
    };

    /// <summary>Names in a sentence: a, b or c.</summary>
    public static string Of(IEnumerable<string> names)
    {
        string[] all = [.. names];
        return all.Length == 1 ? all[0] : $"{string.Join(", ", all[..^1])} or {all[^1]}";
    }

    public static string[] Parts(string option, string list)
    {
        string[] parts = list.Split(',');
        return !parts.Contains("") ? parts : throw new UsageException($"{option} is '{list}': a value is empty.");
    }

    public static IEnumerable<string> Each(string option, string list, IEnumerable<string> choices)
    {
        string[] parts = Parts(option, list);
        Array.ForEach(parts, part => RequireOne(option, part, choices));
        return parts;
    }

    public static void RequireOne(string option, string value, IEnumerable<string> choices)
    {
        if (!choices.Contains(value))
            throw new UsageException($"{option} is '{value}': this version has {Of(choices)}.");
    }

    public static int Number(string option, string value, int least, int most) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= least && number <= most
            ? number
            : throw new UsageException($"{option} is '{value}': it must be a whole number from {least} to {most}.");
}

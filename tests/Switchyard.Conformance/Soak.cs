using System.Globalization;

namespace Switchyard.Conformance;

/// <summary>
/// How much of a test is done: in CI a part that takes seconds; all of it under <c>./dev soak</c>, which sets SWITCHYARD_SOAK, and SWITCHYARD_SOAK_REPORT
/// to the file that gathers what was run and the figures. Such tests have the trait <see cref="Trait"/>.
/// </summary>
public static class Soak
{
    public const string Trait = "Soak";

    private static readonly Lock _gate = new();

    public static bool IsOn { get; } = Environment.GetEnvironmentVariable("SWITCHYARD_SOAK") == "1";

    public static int Times(int inCi, int whole) => IsOn ? whole : inCi;

    /// <summary>All numbers of a range, or in CI the first ones and some at random, ascending.</summary>
    public static int[] Sample(int first, int end, int inCi = 64)
    {
        int[] all = [.. Enumerable.Range(first, end - first)];
        if (IsOn || all.Length <= inCi) return all;
        int[] rest = all[(inCi / 2)..];
        Random.Shared.Shuffle(rest);
        return [.. all[..(inCi / 2)].Concat(rest[..(inCi / 2)]).Order()];
    }

    /// <summary>Puts a line into the soak's table.</summary>
    public static void Report(string what, FormattableString figures)
    {
        if (Environment.GetEnvironmentVariable("SWITCHYARD_SOAK_REPORT") is not { Length: > 0 } path) return;
        lock (_gate) File.AppendAllText(path, $"{what}\t{figures.ToString(CultureInfo.InvariantCulture)}\n");
    }
}

using System.Diagnostics;

namespace Switchyard.Cli.Bench.Report;

/// <summary>The median and the 99th percentile by nearest rank, in microseconds.</summary>
internal readonly record struct Percentiles(double P50, double P99)
{
    public static Percentiles Of(IEnumerable<long> ticks)
    {
        double[] sorted = [.. ticks.Order().Select(Microseconds)];
        return new Percentiles(At(sorted, 50), At(sorted, 99));
    }

    private static double At(double[] sorted, int percent) => sorted[Math.Max(0, ((sorted.Length * percent) + 99) / 100 - 1)];

    public static double Microseconds(long ticks) => Math.Round(ticks * 1e6 / Stopwatch.Frequency, 2);
}

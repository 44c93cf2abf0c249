using System.Globalization;

namespace MoeTraining;

/// <summary>A run in one line of text.</summary>
internal static class Lines
{
    public static string Progress(TrainingRun run) => string.Create(CultureInfo.InvariantCulture,
        $"{run.Name,-7}  step {run.Losses.Count,4}/{run.Steps}  loss {run.LastLoss:F3}  {Speed(run)}  {Moved(run)}  {Load(run)}");

    public static string Summary(TrainingRun run) => string.Create(CultureInfo.InvariantCulture,
        $"{run.Name,-7}  loss {run.Losses[0]:F3} -> {run.LastLoss:F3} in {run.Seconds:F1} s  {Speed(run)}  {Moved(run)}");

    public static string Speed(TrainingRun run) => string.Create(CultureInfo.InvariantCulture, $"{run.TokensPerSecond:N0} tokens/s");

    public static string Moved(TrainingRun run) => $"moved {Bytes(run.BytesMoved)}, {Bytes(run.BytesCrossed)} between ranks";

    public static string Bytes(long bytes) => bytes >= 1_000_000_000
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9:F2} GB")
        : string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e6:F1} MB");

    private static string Load(TrainingRun run)
    {
        int[][] load = run.Reports[^1].Load;
        double busiest = load.Max(block => block.Max() * block.Length / (double)block.Sum());
        return string.Create(CultureInfo.InvariantCulture, $"busiest expert {busiest:F1}x the mean");
    }
}

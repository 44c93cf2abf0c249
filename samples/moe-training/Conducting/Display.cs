using System.Diagnostics;
using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace MoeTraining;

/// <summary>Shows runs while they go on: a live picture in a terminal, a line every two seconds elsewhere.</summary>
internal static class Display
{
    private const string Levels = " ▁▂▃▄▅▆▇█";
    private const int BarWidth = 24;
    private static readonly string[] _rankColors = ["deepskyblue1", "orange1", "springgreen2", "mediumpurple1"];

    /// <param name="runs">The runs, shown one below the other.</param>
    /// <param name="work">Does the work; calls its argument when a run has changed.</param>
    public static async Task ShowAsync(TrainingRun[] runs, Func<Action, Task> work)
    {
        if (Console.IsOutputRedirected || !AnsiConsole.Profile.Capabilities.Ansi)
            await work(PrintEvery(runs, TimeSpan.FromSeconds(2)));
        else
            await AnsiConsole.Live(Picture(runs)).StartAsync(live => work(() => live.UpdateTarget(Picture(runs))));
    }

    private static Action PrintEvery(TrainingRun[] runs, TimeSpan interval)
    {
        long last = 0;
        return () =>
        {
            TrainingRun run = runs.Last(run => run.Losses.Count > 0);
            if (last != 0 && Stopwatch.GetElapsedTime(last) < interval && run.Losses.Count < run.Steps) return;
            last = Stopwatch.GetTimestamp();
            Console.WriteLine(Lines.Progress(run));
        };
    }

    private static Rows Picture(TrainingRun[] runs)
    {
        Table table = new Table().Border(TableBorder.Rounded)
            .AddColumns("run", "step", "", "loss", "tokens/s", "moved", "between ranks");
        foreach (TrainingRun run in runs)
        {
            int filled = BarWidth * run.Losses.Count / run.Steps;
            string bar = $"[deepskyblue1]{new string('█', filled)}[/][grey]{new string('░', BarWidth - filled)}[/]";
            string[] start = [run.Name, $"{run.Losses.Count}/{run.Steps}", bar];
            string[] numbers = run.Losses.Count == 0 ? ["", "", "", ""] :
            [
                run.LastLoss.ToString("F3", CultureInfo.InvariantCulture),
                run.TokensPerSecond.ToString("N0", CultureInfo.InvariantCulture),
                Lines.Bytes(run.BytesMoved), Lines.Bytes(run.BytesCrossed),
            ];
            table.AddRow([.. start, .. numbers]);
        }
        List<IRenderable> parts = [table];
        if (runs.LastOrDefault(run => run.Losses.Count > 0) is { } current)
        {
            parts.Add(new Markup($"loss, {current.Name}: {Curve(current)}"));
            int[][] load = current.Reports[^1].Load;
            for (int block = 0; block < load.Length; block++) parts.Add(new Markup($"load per expert, block {block + 1}: {LoadBars(load[block], current.Ranks)}"));
        }
        return new Rows(parts);
    }

    /// <summary>The loss from the first report to the last, a character each stretch of the run.</summary>
    private static string Curve(TrainingRun run)
    {
        const int Width = 60;
        int perCharacter = Math.Max(1, (run.Steps + Width - 1) / Width);
        float top = run.Losses.Max();
        return new string([.. run.Losses.Chunk(perCharacter).Select(stretch => Level(stretch.Average() / top))]);
    }

    /// <summary>A bar an expert, full at twice the mean, in the color of the rank that holds it.</summary>
    private static string LoadBars(int[] load, int ranks)
    {
        double mean = load.Average();
        return string.Join(' ', load.Select((count, expert) =>
            $"[{_rankColors[expert * ranks / load.Length]}]{Level(count / (2 * mean))}[/]"));
    }

    private static char Level(double share) => Levels[(int)Math.Clamp(Math.Round(share * (Levels.Length - 1)), 0, Levels.Length - 1)];
}

using ScottPlot;

namespace MoeTraining;

/// <summary>The report's pictures, as PNG.</summary>
internal static class Pictures
{
    private const string Font = "DejaVu Sans";

    /// <summary>By <see cref="StepPhase"/>: blues compute densely, greens are experts, reds move rows, greys are the rest.</summary>
    private static readonly string[] _phaseColors =
    [
        "#4878a8", "#9db8d2", "#d1495b", "#5b9a68", "#e88d67", "#2d5680", "#b03a4a", "#3c7048", "#c96f4a", "#7f9fc0", "#8a8a8a", "#c0c0c0",
    ];

    private static readonly string[] _phaseNames =
    [
        "attention, ends", "gate", "dispatch", "experts", "combine", "attention, ends back", "dispatch back", "experts back", "combine back",
        "gate back", "gradient sum", "optimizer",
    ];

    /// <summary>Makes text independent of the machine's fonts: where there are none, ScottPlot would silently leave it out.</summary>
    public static void LoadFont()
    {
        Fonts.AddFontFile(Font, Path.Combine(AppContext.BaseDirectory, "Fonts", "DejaVuSans.ttf"), bold: false, italic: false);
        Fonts.Default = Font;
    }

    public static byte[] Loss(Demo demo)
    {
        using Plot plot = NewPlot("Loss over steps", "step", "cross-entropy, nats a byte");
        float[] widths = [7, 2];
        string[] colors = ["#e8b87a", "#1f4e79"];
        for (int i = 0; i < demo.Runs.Length; i++)
        {
            TrainingRun run = demo.Runs[i];
            var line = plot.Add.SignalXY(
                [.. Enumerable.Range(1, run.Losses.Count).Select(step => (double)step)], [.. run.Losses.Select(loss => (double)loss)]);
            line.LineWidth = widths[i];
            line.Color = Color.FromHex(colors[i]);
            line.LegendText = run.Name;
        }
        plot.ShowLegend(Alignment.UpperRight);
        plot.Axes.SetLimits(0, demo.Runs[0].Steps, 0, demo.Runs[0].Losses.Max() * 1.05);
        return plot.GetImageBytes(1000, 440, ImageFormat.Png);
    }

    /// <summary>The load of a block's experts over time, in the first run.</summary>
    public static byte[] Load(Demo demo, int block)
    {
        TrainingRun run = demo.Runs[0];
        int experts = demo.Shape.Experts, reports = run.Reports.Count;
        double[,] load = new double[experts, reports];
        for (int report = 0; report < reports; report++)
        {
            int[] counts = run.Reports[report].Load[block];
            double mean = counts.Average();
            for (int expert = 0; expert < experts; expert++) load[expert, report] = counts[expert] / mean;
        }
        using Plot plot = NewPlot($"Load of the experts of block {block + 1}, {run.Name}", "step", "expert");
        var map = plot.Add.Heatmap(load);
        map.FlipVertically = true;
        // From the center of the first cell to the center of the last.
        double half = run.Steps / (2.0 * reports);
        map.Position = new CoordinateRect(half, run.Steps - half, 0, experts - 1);
        map.Colormap = new ScottPlot.Colormaps.Viridis();
        plot.Add.ColorBar(map).Label = "choices / mean";
        plot.Axes.Left.SetTicks(
            [.. Enumerable.Range(0, experts).Where(expert => expert % 2 == 0).Select(expert => (double)expert)],
            [.. Enumerable.Range(0, experts).Where(expert => expert % 2 == 0).Select(expert => $"{expert}")]);
        for (int rank = 1; rank < run.Ranks; rank++) plot.Add.HorizontalLine(rank * experts / run.Ranks - 0.5, 1, Colors.White);
        plot.Axes.SetLimits(0, run.Steps, -0.5, experts - 0.5);
        return plot.GetImageBytes(1000, 360, ImageFormat.Png);
    }

    public static byte[] StepTime(Demo demo)
    {
        using Plot plot = NewPlot("Where a step's time goes", "milliseconds a step, mean of the ranks", "");
        for (int i = 0; i < demo.Runs.Length; i++)
        {
            double start = 0;
            double[] milliseconds = demo.Runs[i].PhaseMilliseconds();
            for (int phase = 0; phase < milliseconds.Length; phase++)
            {
                var bar = plot.Add.Bar(new Bar
                {
                    Position = -i,
                    ValueBase = start,
                    Value = start += milliseconds[phase],
                    FillColor = Color.FromHex(_phaseColors[phase]),
                    LineWidth = 0,
                    Size = 0.6,
                });
                bar.Horizontal = true;
                if (i == 0) bar.LegendText = _phaseNames[phase];
            }
        }
        plot.Axes.Left.SetTicks([0, -1], [demo.Runs[0].Name, demo.Runs[1].Name]);
        plot.Axes.SetLimits(0, demo.Runs.Max(run => run.PhaseMilliseconds().Sum()) * 1.03, -1.5, 0.5);
        plot.ShowLegend(Edge.Right);
        return plot.GetImageBytes(1000, 360, ImageFormat.Png);
    }

    private static Plot NewPlot(string title, string bottom, string left)
    {
        var plot = new Plot();
        plot.Title(title, 16);
        plot.XLabel(bottom, 13);
        plot.YLabel(left, 13);
        return plot;
    }
}

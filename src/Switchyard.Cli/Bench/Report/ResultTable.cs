using System.Globalization;
using Spectre.Console;

namespace Switchyard.Cli.Bench.Report;

/// <summary>The measured shapes for the eye, a line each.</summary>
internal static class ResultTable
{
    // A table that is redirected is made for a file or a log, not for the 80 columns that are assumed there.
    private const int RedirectedWidth = 120;
    private const int RoutingWidth = 10;

    private static readonly string[] _texts = ["ranks", "tokens x hidden", "layout", "routing"];

    private static readonly string[] _numbers =
        ["dispatch us\np50 / p99", "combine us\np50 / p99", "GB/s\nd / c", "copy\nGB/s", "of copy\nd / c", "verified"];

    public static void Print(IReadOnlyList<Measurement> measurements)
    {
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = RedirectedWidth;
        var table = new Table { Border = TableBorder.Simple };
        foreach (string column in _texts)
            table.AddColumn(new TableColumn(column).NoWrap().Padding(0, 0));
        foreach (string column in _numbers)
            table.AddColumn(new TableColumn(column).NoWrap().Padding(0, 0).RightAligned());
        foreach (Measurement each in measurements)
            table.AddRow([.. Cells(each).Select(cell => new Text(cell))]);
        AnsiConsole.Write(table);
        foreach (string line in Footnotes(measurements))
            AnsiConsole.WriteLine(line);
    }

    private static IEnumerable<string> Cells(Measurement each) =>
    [
        $"{each.Ranks} {(each.Processes ? "proc" : "thr")}",
        $"{each.Tokens} x {each.Hidden} {each.Element}",
        each.Layout,
        // A file's name may be long; its end tells it from others.
        each.Routing.Length <= RoutingWidth ? each.Routing : ".." + each.Routing[^(RoutingWidth - 2)..],
        $"{Microseconds(each.DispatchUs.P50)} / {Microseconds(each.DispatchUs.P99)}",
        $"{Microseconds(each.CombineUs.P50)} / {Microseconds(each.CombineUs.P99)}",
        string.Create(CultureInfo.InvariantCulture, $"{each.DispatchGBps:0.0} / {each.CombineGBps:0.0}"),
        string.Create(CultureInfo.InvariantCulture, $"{each.CopyGBps:0.0}"),
        string.Create(CultureInfo.InvariantCulture, $"{each.DispatchFractionOfCopy:0.00} / {each.CombineFractionOfCopy:0.00}"),
        each.Verified ? "yes" : "NO",
    ];

    private static IEnumerable<string> Footnotes(IReadOnlyList<Measurement> measurements)
    {
        Measurement first = measurements[0];
        yield return $"top-{first.TopK} of {first.Experts} experts, {first.Repetitions} repetitions, slowest rank; d: dispatch, c: combine";
        yield return $"{Machine.Processor}, {Machine.Cores} cores, Linux {Machine.Kernel}, {Machine.Runtime}";
        foreach (Measurement wrong in measurements.Where(each => !each.Verified))
            yield return $"NOT VERIFIED: {string.Join(' ', Cells(wrong).Take(_texts.Length))}: {wrong.Difference}";
    }

    private static string Microseconds(double value) => value.ToString(value < 100 ? "0.0" : "0", CultureInfo.InvariantCulture);
}

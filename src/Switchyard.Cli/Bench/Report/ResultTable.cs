using System.Globalization;
using Spectre.Console;

namespace Switchyard.Cli.Bench.Report;

/// <summary>The measured shapes for the eye, a line each.</summary>
internal static class ResultTable
{
    // A table that is redirected is made for a file or a log, not for the 80 columns that are assumed there.
    private const int RedirectedWidth = 160;
    private const int RoutingWidth = 10;

    private static readonly Column[] _columns =
    [
        new("ranks", each => $"{each.Ranks} {(each.Processes ? "proc" : "thr")}"),
        new("tokens x hidden", each => $"{each.Tokens} x {each.Hidden} {each.Element}"),
        new("layout", each => each.Layout),
        // A file's name may be long; its end tells it from others.
        new("routing", each => each.Routing.Length <= RoutingWidth ? each.Routing : ".." + each.Routing[^(RoutingWidth - 2)..]),
        new("sms", each => each.Sms is { } sms ? $"{sms}" : "", Applies: each => each.Sms is not null),
        new("dispatch us\np50 / p99", each => Both(each.DispatchUs), IsNumber: true),
        new("combine us\np50 / p99", each => Both(each.CombineUs), IsNumber: true),
        new("host us\nd / c", each => each is { HostDispatchUs: { } d, HostCombineUs: { } c } ? $"{Microseconds(d.P50)} / {Microseconds(c.P50)}" : "", IsNumber: true, Applies: each => each.Devices is not null),
        new("GB/s\nd / c", each => Rates(each.DispatchGBps, each.CombineGBps), IsNumber: true, Applies: each => each.Devices is null),
        new("GB/s a GPU\nd / c", each => each is { DispatchLogicalGBps: { } d, CombineLogicalGBps: { } c } ? Rates(d, c) : "", IsNumber: true, Applies: each => each.CrossedRows is not null),
        new("copy\nGB/s", each => Rate(each.CopyGBps), IsNumber: true),
        new("of copy\nd / c", each => string.Create(CultureInfo.InvariantCulture, $"{each.DispatchFractionOfCopy:0.00} / {each.CombineFractionOfCopy:0.00}"), IsNumber: true),
        new("verified", each => each.Verified ? "yes" : "NO", IsNumber: true),
    ];

    public static void Print(IReadOnlyList<Measurement> measurements)
    {
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = RedirectedWidth;
        Column[] columns = [.. _columns.Where(column => measurements.Any(column.Applies))];
        var table = new Table { Border = TableBorder.Simple };
        foreach (Column column in columns)
            table.AddColumn(new TableColumn(column.Name) { Alignment = column.IsNumber ? Justify.Right : null }.NoWrap().Padding(0, 0));
        foreach (Measurement each in measurements)
            table.AddRow([.. columns.Select(column => new Text(column.Cell(each)))]);
        AnsiConsole.Write(table);
        foreach (string line in Footnotes(measurements, columns))
            AnsiConsole.WriteLine(line);
    }

    private static IEnumerable<string> Footnotes(IReadOnlyList<Measurement> measurements, Column[] columns)
    {
        Measurement first = measurements[0];
        yield return $"top-{first.TopK} of {first.Experts} experts, {first.Repetitions} repetitions, slowest rank; d: dispatch, c: combine";
        if (first.Devices is { } devices)
            yield return $"{first.Device} ({(devices.Count == 1 ? "device" : "devices")} {string.Join(", ", devices)}), {first.Driver}";
        yield return $"{Machine.Processor}, {Machine.Cores} cores, Linux {Machine.Kernel}, {Machine.Runtime}";
        foreach (Measurement wrong in measurements.Where(each => !each.Verified))
            yield return $"NOT VERIFIED: {string.Join(' ', columns.Where(column => !column.IsNumber).Select(column => column.Cell(wrong)))}: {wrong.Difference}";
    }

    private static string Both(Percentiles time) => $"{Microseconds(time.P50)} / {Microseconds(time.P99)}";

    private static string Microseconds(double value) => value.ToString(value < 100 ? "0.0" : "0", CultureInfo.InvariantCulture);

    private static string Rates(double dispatch, double combine) => $"{Rate(dispatch)} / {Rate(combine)}";

    private static string Rate(double value) => value.ToString("0.0", CultureInfo.InvariantCulture);

    /// <param name="Name">Its head.</param>
    /// <param name="Cell">What stands in a measurement's line.</param>
    /// <param name="IsNumber">Whether it stands to the right.</param>
    /// <param name="Applies">Whether a measurement has something to say in it; null for always.</param>
    private sealed record Column(string Name, Func<Measurement, string> Cell, bool IsNumber = false, Func<Measurement, bool>? Applies = null)
    {
        public Func<Measurement, bool> Applies { get; } = Applies ?? (_ => true);
    }
}

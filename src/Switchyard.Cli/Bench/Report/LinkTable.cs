using System.Globalization;
using Spectre.Console;

namespace Switchyard.Cli.Bench.Report;

/// <summary>The links between devices for the eye; nothing where there are none.</summary>
internal static class LinkTable
{
    public static void Print(IReadOnlyList<LinkMeasurement> links)
    {
        if (links.Count == 0) return;
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumn("copies between devices");
        foreach (string column in (string[])["one way\nGB/s", "both ways\nGB/s each", "verified"])
            table.AddColumn(new TableColumn(column).RightAligned());
        foreach (LinkMeasurement link in links)
            table.AddRow(string.Join(", ", link.Devices), Rate(link.OneWayGBps), Rate(link.BothWaysGBps), link.Verified ? "yes" : "NO");
        AnsiConsole.Write(table);
    }

    private static string Rate(double value) => value.ToString("0.0", CultureInfo.InvariantCulture);
}

using System.Globalization;
using Spectre.Console;
using Switchyard.Cli.Bench.Peers;

namespace Switchyard.Cli.Bench.Report;

/// <summary>The runs in turn with a peer, for the eye; nothing without a peer.</summary>
internal static class PeerTable
{
    public static void Print(IEnumerable<Measurement> measurements)
    {
        foreach (Measurement each in measurements)
        {
            if (each.Peer is { } peer)
                Print(each, peer);
        }
    }

    private static void Print(Measurement shape, PeerComparison peer)
    {
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumn($"{shape.Ranks} x {shape.Tokens} x {shape.Hidden}");
        foreach (string column in (string[])["dispatch us\nours", peer.Name, "ratio", "combine us\nours", peer.Name, "ratio"])
            table.AddColumn(new TableColumn(column).RightAligned());
        for (int i = 0; i < peer.Pairs.Count; i++)
        {
            Pair pair = peer.Pairs[i];
            table.AddRow([.. Row($"pair {i + 1}", pair.DispatchUs.P50, pair.Peer.DispatchUs.P50, pair.DispatchRatio,
                pair.CombineUs.P50, pair.Peer.CombineUs.P50, pair.CombineRatio).Select(cell => new Text(cell))]);
        }
        table.AddRow("median", "", "", Number(peer.DispatchRatio), "", "", Number(peer.CombineRatio));
        AnsiConsole.Write(table);
    }

    private static IEnumerable<string> Row(string name, params double[] numbers) => numbers.Select(Number).Prepend(name);

    private static string Number(double value) => value.ToString(value < 100 ? "0.00" : "0", CultureInfo.InvariantCulture);
}

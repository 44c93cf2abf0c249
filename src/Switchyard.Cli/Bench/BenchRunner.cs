using System.Text.Json;
using System.Text.Json.Nodes;
using Switchyard.Cli.Bench.Gpu;
using Switchyard.Cli.Bench.Peers;
using Switchyard.Cli.Bench.Report;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cli.Launch;

namespace Switchyard.Cli.Bench;

/// <summary>Measures the shapes one after another and reports them.</summary>
internal static class BenchRunner
{
    private const int NotVerified = 1;

    /// <summary>The tool's exit code. What was measured before a failure is reported too.</summary>
    public static async Task<int> RunAsync(BenchPlan plan)
    {
        MpiPeer? peer = plan.Pairs is null ? null : await MpiPeer.BuildAsync();
        await using var scratch = ScratchFolder.Create("switchyard-bench-");
        var measurements = new List<Measurement>();
        List<LinkMeasurement> links = [];
        int exitCode = 0;
        try
        {
            links = LinkMeter.Measure(plan.UsedDevices);
            foreach (Shape shape in plan.Shapes)
            {
                Announce(shape);
                var job = new Job(shape, plan.Repetitions, plan.Warmup);
                measurements.Add(peer is null ? await RankLauncher.RunAsync(job, scratch.Path) : await InTurnAsync(job, peer, plan.Pairs!.Value, scratch.Path));
            }
        }
        catch (SubjobFailedException failure)
        {
            exitCode = failure.ExitCode;
        }
        catch (Exception failure) when (failure is InvalidDataException or SwitchyardException)
        {
            Console.Error.WriteLine($"switchyard: {failure.Message}");
            exitCode = 1;
        }
        if (measurements.Count > 0)
            Report(measurements, links, plan.JsonFile);
        bool isWrong = measurements.Any(each => !each.Verified) || links.Any(each => !each.Verified);
        return exitCode == 0 && isWrong ? NotVerified : exitCode;
    }

    /// <summary>
    /// Ours and the peer's runs by turns, so that both meet the same state of the machine. The run that stands for ours is the median
    /// one.
    /// </summary>
    private static async Task<Measurement> InTurnAsync(Job job, MpiPeer peer, int pairs, string scratch)
    {
        var runs = new List<(Measurement Ours, PeerResult Peer)>();
        for (int i = 0; i < pairs; i++)
            runs.Add((await RankLauncher.RunAsync(job, scratch), await peer.RunAsync(job, scratch)));
        Measurement median = runs.Select(run => run.Ours).OrderBy(ours => ours.PairUs.P50).ElementAt((pairs - 1) / 2);
        Measurement shown = runs.Select(run => run.Ours).FirstOrDefault(ours => !ours.Verified) ?? median;
        IEnumerable<Pair> compared = runs.Select(run => new Pair(run.Ours.DispatchUs, run.Ours.CombineUs, run.Peer));
        return shown with { Peer = new PeerComparison(MpiPeer.Name, [.. compared]) };
    }

    private static void Report(List<Measurement> measurements, List<LinkMeasurement> links, string? jsonFile)
    {
        ResultTable.Print(measurements);
        LinkTable.Print(links);
        PeerTable.Print(measurements);
        if (jsonFile is null) return;
        JsonArray rows =
        [
            .. measurements.Select(each => JsonSerializer.SerializeToNode(each, BenchJson.Default.Measurement)),
            .. links.Select(each => JsonSerializer.SerializeToNode(each, BenchJson.Default.LinkMeasurement)),
        ];
        File.WriteAllText(jsonFile, rows.ToJsonString(BenchJson.Default.Options) + "\n");
    }

    /// <summary>For who waits at a terminal.</summary>
    private static void Announce(Shape shape)
    {
        if (!Console.IsErrorRedirected)
            Console.Error.WriteLine($"measuring {shape}");
    }
}

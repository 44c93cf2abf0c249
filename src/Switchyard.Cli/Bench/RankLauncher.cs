using Switchyard.Cli.Bench.Report;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cli.Launch;

namespace Switchyard.Cli.Bench;

/// <summary>
/// Runs a job in processes of its own, also where the ranks are threads: they run under another runtime configuration than the tool.
/// </summary>
internal static class RankLauncher
{
    private static readonly Dictionary<string, string> _runtime = new()
    {
        // Every method is compiled for this processor and fully optimized at its first call: nothing is swapped or profiled while time is
        // taken.
        ["DOTNET_TieredCompilation"] = "0",
        ["DOTNET_TieredPGO"] = "0",
        ["DOTNET_ReadyToRun"] = "0",
    };

    public static async Task<Measurement> RunAsync(Job job, string scratch)
    {
        using var folder = JobFolder.Create(scratch, job);
        string[] command = ProgramFinder.Resolve([ProgramFinder.ThisTool, WorkCommand.Name, folder.Path]);
        await Subjob.RunAsync(job.Shape.Processes ? job.Shape.Ranks : 1, command, _runtime);
        return Measurement.Of(job, folder.ReadResults(job));
    }
}

using System.CommandLine;

namespace Switchyard.Cli.Bench.Work;

/// <summary>What the bench starts itself with: one rank in each process, or all ranks as threads of one.</summary>
internal static class WorkCommand
{
    public const string Name = "bench-ranks";

    private static readonly Argument<string> _folder = new("folder");

    public static Command Create()
    {
        var command = new Command(Name, "Runs ranks for 'bench'.") { _folder };
        command.Hidden = true;
        command.SetAction((parse, _) => RunAsync(new JobFolder(parse.GetValue(_folder)!)));
        return command;
    }

    private static async Task<int> RunAsync(JobFolder folder)
    {
        Job job = folder.ReadJob();
        ExpertGroup[] ranks = job.Shape.Processes
            ? [await ExpertGroup.JoinAsync(ExpertGroupOptions.FromEnvironment())]
            : ExpertGroup.CreateLocal(job.Shape.Ranks);
        Thread[] threads = [.. ranks.Select(group => new Thread(() => RunRank(job, group, folder)) { Name = $"rank {group.Rank}" })];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        return 0;
    }

    private static void RunRank(Job job, ExpertGroup group, JobFolder folder)
    {
        using ExpertGroup member = group;
        try
        {
            folder.Write(group.Rank, RankRun.Run(job, group, folder.StartLine));
        }
#pragma warning disable CA1031 // Whatever it was, the other ranks wait for this one.
        catch (Exception failure)
#pragma warning restore CA1031
        {
            Console.Error.WriteLine($"rank {group.Rank}: {failure.GetType().Name}: {failure.Message}");
            Environment.Exit(1);
        }
    }
}

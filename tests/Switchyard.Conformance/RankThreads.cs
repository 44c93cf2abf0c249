namespace Switchyard.Conformance;

/// <summary>Runs a scenario with a thread a rank.</summary>
public static class RankThreads
{
    public static async Task RunAsync(ExpertGroup[] ranks, ExpertBackend backend, Scenario scenario, int seed)
    {
        Task[] runs = [.. ranks.Select(group => Task.Factory.StartNew(
            () => RunRank(new RankContext(group, backend, seed), scenario),
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        try
        {
            await Task.WhenAll(runs).WaitAsync(TimeSpan.FromMinutes(2));
        }
        finally
        {
            foreach (ExpertGroup group in ranks) group.Dispose();
        }
    }

    /// <summary>Blocks its thread through the scenario's awaits, so that a rank has one thread throughout.</summary>
    private static void RunRank(RankContext rank, Scenario scenario) => scenario.RunAsync(rank).GetAwaiter().GetResult();
}

namespace Switchyard.Conformance;

/// <summary>Runs a scenario with a thread a rank.</summary>
public static class RankThreads
{
    /// <param name="ranks">The group.</param>
    /// <param name="backend">Of each rank.</param>
    /// <param name="scenario">What they run.</param>
    /// <param name="seed">The same on all ranks.</param>
    /// <param name="deviceOf">Where a rank's backend wants its tensors; null: on the host.</param>
    public static async Task RunAsync(ExpertGroup[] ranks, Func<int, ExpertBackend> backend, Scenario scenario, int seed, Func<int, DeviceAccess>? deviceOf = null)
    {
        Task[] runs = [.. ranks.Select(group => Task.Factory.StartNew(
            () => RunRank(new RankContext(group, backend(group.Rank), seed, deviceOf?.Invoke(group.Rank)), scenario),
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        try
        {
            // Ranks that wait for one that failed need not be waited for long.
            Task first = await Task.WhenAny([.. runs.Select(FailAsync), Task.WhenAll(runs)]).WaitAsync(TimeSpan.FromMinutes(2));
            if (!Task.WhenAll(runs).IsCompleted) await Task.WhenAny(Task.WhenAll(runs), Task.Delay(TimeSpan.FromSeconds(5)));
            await first;
        }
        finally
        {
            foreach (ExpertGroup group in ranks) group.Dispose();
        }
    }

    /// <summary>Ends when the run fails, and only then.</summary>
    private static async Task FailAsync(Task run)
    {
        await run;
        await Task.Delay(Timeout.Infinite);
    }

    /// <summary>Blocks its thread through the scenario's awaits, so that a rank has one thread throughout.</summary>
    private static void RunRank(RankContext rank, Scenario scenario)
    {
        using DeviceAccess? device = rank.Device;
        scenario.RunAsync(rank).GetAwaiter().GetResult();
    }
}

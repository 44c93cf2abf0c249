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
            await EndAsync(runs).WaitAsync(TimeSpan.FromMinutes(2));
        }
        finally
        {
            foreach (ExpertGroup group in ranks) group.Dispose();
        }
    }

    /// <summary>Throws what the first rank that failed has thrown; those that wait for it are not waited for long.</summary>
    private static async Task EndAsync(Task[] runs)
    {
        var left = new List<Task>(runs);
        while (left.Count > 0)
        {
            Task ended = await Task.WhenAny(left);
            left.Remove(ended);
            if (ended.IsFaulted) await Task.WhenAny(Task.WhenAll(left), Task.Delay(TimeSpan.FromSeconds(5)));
            await ended;
        }
    }

    /// <summary>Blocks its thread through the scenario's awaits, so that a rank has one thread throughout.</summary>
    private static void RunRank(RankContext rank, Scenario scenario)
    {
        using DeviceAccess? device = rank.Device;
        scenario.RunAsync(rank).GetAwaiter().GetResult();
    }
}

using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Switchyard.Conformance;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>A rank that is slow is not lost: it is waited for until the deadline, and then it is called late.</summary>
[Collection(nameof(Alone))]
[Trait(Soak.Trait, "stalls")]
public sealed partial class StallTests
{
    private const int Stop = 19;
    private const int Continue = 18;

    private static readonly TimeSpan _limit = TimeSpan.FromMinutes(Soak.Times(2, 30));

    [Fact]
    public async Task A_collector_that_compacts_a_large_heap_evicts_nobody()
    {
        using var processes = new RankProcesses("collector-stalls", ranks: 2, seed: 0);
        await processes.EndAsync(_limit);
        Soak.Report("steps beside a compacting collector", $"{(await LastLineAsync(processes, 0))}; {(await LastLineAsync(processes, 1))}");
    }

    [Fact]
    public async Task Starved_threads_are_slow_and_right()
    {
        var clock = Stopwatch.StartNew();
        using var processes = new RankProcesses("starved-threads", ranks: 2, seed: 0);
        await processes.EndAsync(_limit);
        Soak.Report("steps with a full thread pool, then at the least priority", $"{clock.Elapsed.TotalSeconds:0.0} s");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public async Task A_stopped_rank_that_goes_on_within_the_deadline_goes_on(int victim)
    {
        int stoppedMs = Soak.Times(1500, 10_000);
        using var processes = new RankProcesses("run-until-told", ranks: 3, seed: 60_000);
        await WaitForStepsAsync(processes);
        Signal(processes[victim], Stop);
        await Task.Delay(stoppedMs);
        Signal(processes[victim], Continue);
        await Task.Delay(200);
        processes.Tell("enough");
        await processes.EndAsync(_limit);
        for (int rank = 0; rank < 3; rank++)
        {
            string[] words = (await LastLineAsync(processes, rank)).Split(' ');
            Assert.Equal("through", words[0]);
            if (rank == victim) continue;
            double[] waited = [.. words[2..].Select(word => double.Parse(word, CultureInfo.InvariantCulture))];
            Assert.True(waited[victim] > 0.8 * stoppedMs, $"rank {rank} waited {string.Join(", ", waited)} ms for the ranks; rank {victim} was stopped for {stoppedMs} ms");
            Assert.Equal(victim, Array.IndexOf(waited, waited.Max()));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_stopped_rank_is_late_at_the_deadline_and_not_lost(int victim)
    {
        using var processes = new RankProcesses("run-until-told", ranks: 3, seed: 2000);
        await WaitForStepsAsync(processes);
        Signal(processes[victim], Stop);
        int[] survivors = [.. Enumerable.Range(0, 3).Where(rank => rank != victim)];
        using (var cancel = new CancellationTokenSource(TimeSpan.FromSeconds(60)))
            await Task.WhenAll(survivors.Select(rank => processes[rank].WaitForExitAsync(cancel.Token)));
        foreach (int rank in survivors) await RequireLateAsync(processes, rank, victim);
        // It learns that it was late: that is why the others are gone.
        Signal(processes[victim], Continue);
        await processes.EndAsync(TimeSpan.FromSeconds(60));
        await RequireLateAsync(processes, victim, victim);
    }

    private static async Task RequireLateAsync(RankProcesses processes, int rank, int victim)
    {
        string line = await LastLineAsync(processes, rank);
        Assert.StartsWith($"late {victim} ", line, StringComparison.Ordinal);
        Assert.Contains($"for rank {victim}", line, StringComparison.Ordinal);
    }

    private static async Task<string> LastLineAsync(RankProcesses processes, int rank)
    {
        (string output, string error) = await processes.OutputOfAsync(rank);
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries).LastOrDefault() ?? $"nothing; {error}";
    }

    private static async Task WaitForStepsAsync(RankProcesses processes)
    {
        var clock = Stopwatch.StartNew();
        while (processes.RanksThatStep < 3)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), "the ranks do not step");
            await Task.Delay(20);
        }
        await Task.Delay(100);
    }

    private static void Signal(Process process, int signal) => Assert.Equal(0, Kill(process.Id, signal));

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int process, int signal);
}

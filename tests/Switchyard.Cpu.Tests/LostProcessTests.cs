using System.Diagnostics;
using System.Globalization;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>A killed rank ends in an error on every survivor that names it, whatever they were doing.</summary>
public sealed class LostProcessTests
{
    [Theory]
    [InlineData(2, 0)]
    [InlineData(4, 2)]
    [InlineData(4, 0)]
    [InlineData(8, 7)]
    public async Task Every_survivor_names_the_killed_rank(int ranks, int victim)
    {
        for (int attempt = 0; attempt < 3; attempt++)
        {
            using var processes = new RankProcesses("run-until-lost", ranks, Random.Shared.Next(1 << 20));
            // Each rank says that it steps; then the kill falls at a random point of a step.
            await WaitForStepsAsync(processes, ranks);
            await Task.Delay(Random.Shared.Next(50));
            long killedAt = Stopwatch.GetTimestamp();
            processes[victim].Kill();
            for (int rank = 0; rank < ranks; rank++)
            {
                await processes[rank].WaitForExitAsync();
                if (rank == victim) continue;
                (string output, string error) = await processes.OutputOfAsync(rank);
                Assert.True(processes[rank].ExitCode == 0, $"rank {rank}: {output}{error}");
                string[] report = output.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1].Split(' ');
                Assert.Equal(["lost", victim.ToString(CultureInfo.InvariantCulture), processes[victim].Id.ToString(CultureInfo.InvariantCulture)], report[..3]);
                string[] note = processes.FaultNoteOf(rank);
                Assert.Equal(victim.ToString(CultureInfo.InvariantCulture), note[0]);
                Assert.Contains($"Lost rank {victim}", note[1], StringComparison.Ordinal);
                TimeSpan took = TimeSpan.FromSeconds((long.Parse(report[3], CultureInfo.InvariantCulture) - killedAt) / (double)Stopwatch.Frequency);
                Assert.True(took < TimeSpan.FromMilliseconds(500), $"rank {rank} took {took.TotalMilliseconds:0} ms");
            }
        }
    }

    private static async Task WaitForStepsAsync(RankProcesses processes, int ranks)
    {
        var clock = Stopwatch.StartNew();
        while (processes.RanksThatStep < ranks)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), "the ranks do not step");
            await Task.Delay(20);
        }
    }
}

using Switchyard.Conformance;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>What must stay flat over a long run.</summary>
[Collection(nameof(Alone))]
public sealed class SteadyStateTests
{
    [Fact]
    public async Task A_million_steps_allocate_and_collect_nothing()
    {
        using var processes = new RankProcesses("million-steps", ranks: 2, seed: 1);
        await processes.EndAsync(TimeSpan.FromMinutes(5));
    }

    [Fact]
    [Trait(Soak.Trait, "cycles")]
    public async Task Buffers_and_groups_that_are_disposed_leave_nothing()
    {
        using var processes = new RankProcesses("cycles", ranks: 2, seed: 0);
        await processes.EndAsync(TimeSpan.FromMinutes(Soak.Times(3, 30)));
        (string output, _) = await processes.OutputOfAsync(0);
        foreach (string line in output.Split('\n', StringSplitOptions.RemoveEmptyEntries)) Soak.Report("made and disposed", $"{line}");
    }
}

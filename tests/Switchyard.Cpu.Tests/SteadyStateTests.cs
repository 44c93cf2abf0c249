using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>What must stay flat over a long run.</summary>
public sealed class SteadyStateTests
{
    [Fact]
    public async Task A_million_steps_allocate_and_collect_nothing()
    {
        using var processes = new RankProcesses("million-steps", ranks: 2, seed: 1);
        await processes.EndAsync(TimeSpan.FromMinutes(5));
    }
}

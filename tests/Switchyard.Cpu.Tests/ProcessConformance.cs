using Switchyard.Conformance;

namespace Switchyard.Cpu.Tests;

/// <summary>Ranks as processes of one machine.</summary>
public sealed class ProcessConformance : ConformanceSuite
{
    protected override async Task RunAsync(string scenario, int ranks, int seed)
    {
        using var processes = new RankProcesses(scenario, ranks, seed);
        await processes.EndAsync(TimeSpan.FromMinutes(2));
    }
}

using Switchyard.Conformance;

namespace Switchyard.Cpu.Tests;

/// <summary>Ranks as threads of one process.</summary>
public sealed class ThreadConformance : ConformanceSuite
{
    protected override Task RunAsync(string scenario, int ranks, int seed) =>
        RankThreads.RunAsync(ExpertGroup.CreateLocal(ranks), _ => CpuBackend.Instance, Scenario.All[scenario], seed);
}

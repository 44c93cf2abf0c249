using Switchyard.Conformance;

namespace Switchyard.Cuda.Tests;

/// <summary>Ranks as threads of one process that share a device.</summary>
public sealed class CudaConformance : ConformanceSuite
{
    protected override Task RunAsync(string scenario, int ranks, int seed)
    {
        Gpu.SkipUnlessPresent();
        Scenario run = Scenario.All[scenario];
        Assert.SkipUnless(run.OnDevices, "a device finds wrong choices later, and tells all ranks: RefusalTests");
        var backend = CudaBackend.For(0);
        return RankThreads.RunAsync(ExpertGroup.CreateLocal(ranks), _ => backend, run, seed, _ => new CudaAccess(0));
    }
}

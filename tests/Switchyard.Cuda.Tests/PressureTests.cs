using System.Diagnostics;
using Switchyard.Conformance;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Tests;

/// <summary>Scenarios of the conformance suite with few ranks, on several devices, and again and again.</summary>
public sealed class PressureTests
{
    /// <summary>What is run under compute-sanitizer, where everything takes many times as long.</summary>
    public const string Reduced = "Reduced";

    private static readonly TimeSpan _soakTime = TimeSpan.FromMinutes(4);

    public static TheoryData<string> Scenarios => [.. Scenario.All.Where(each => each.Value.OnDevices).Select(each => each.Key)];

    /// <summary>Also where kernels run one at a time.</summary>
    [Theory, Trait("Suite", Reduced)]
    [MemberData(nameof(Scenarios))]
    public Task One_rank_agrees_with_the_reference(string scenario) => RunAsync(scenario, ranks: 1, devices: 1, Random.Shared.Next(1 << 20), times: 1);

    [Theory, Trait("Suite", Reduced)]
    [MemberData(nameof(Scenarios))]
    public Task Two_ranks_agree_with_the_reference(string scenario) => RunAsync(scenario, ranks: 2, devices: 1, Random.Shared.Next(1 << 20), times: 1);

    [Theory]
    [MemberData(nameof(Scenarios))]
    public Task A_rank_a_device_agrees_with_the_reference(string scenario)
    {
        Gpu.SkipUnlessPresent(devices: 2);
        return RunAsync(scenario, ranks: CudaDevice.Count, devices: CudaDevice.Count, Random.Shared.Next(1 << 20), times: 1);
    }

    /// <summary>Each run is held to the bits of the reference, and so all are the same.</summary>
    [Fact, Trait(Soak.Trait, "")]
    public async Task The_same_inputs_give_the_same_bits_twenty_times()
    {
        Gpu.SkipUnlessPresent();
        string[] scenarios = [.. Scenarios.Select(row => row.Data)];
        int draws = 0, devices = CudaDevice.Count;
        var clock = Stopwatch.StartNew();
        for (; draws < 3 || (Soak.IsOn && clock.Elapsed < _soakTime); draws++)
            await RunAsync(Random.Shared.GetItems(scenarios, 1)[0], Random.Shared.Next(1, 9), devices, Random.Shared.Next(1 << 20), times: 20);
        Soak.Report("GPU: random scenarios with 1 to 8 ranks, 20 runs a seed", $"{devices} devices, {draws} seeds, all bits as the reference's");
    }

    private static async Task RunAsync(string scenario, int ranks, int devices, int seed, int times)
    {
        Gpu.SkipUnlessPresent();
        CudaBackend[] backends = [.. Enumerable.Range(0, devices).Select(CudaBackend.For)];
        for (int time = 1; time <= times; time++)
        {
            try
            {
                await RankThreads.RunAsync(ExpertGroup.CreateLocal(ranks), rank => backends[rank % devices], Scenario.All[scenario], seed, rank => new CudaAccess(rank % devices));
            }
            catch (Exception failure)
            {
                throw new InvalidOperationException($"{scenario} with {ranks} ranks failed in run {time} with seed {seed}: {failure.Message}", failure);
            }
        }
    }
}

using System.Diagnostics;

namespace Switchyard.Cuda.Tests;

/// <summary>A process a rank: arenas go to the others as descriptors. Without MPS a device serves one process at a time.</summary>
public sealed class RankProcessTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("switchyard-test-");

    [Theory]
    [InlineData("exchange-bfloat16", 2, 1)]
    [InlineData("exchange-scaled-rows", 3, 1)]
    [InlineData("mismatch-alignment", 2, 1)]
    [InlineData("late", 2, 1)]
    [InlineData("exchange-bfloat16", 2, 2)]
    [InlineData("exchange-scaled-rows", 2, 2)]
    [InlineData("exchange-quantized-half", 2, 2)]
    [InlineData("mismatch-alignment", 2, 2)]
    [InlineData("late", 2, 2)]
    [InlineData("exchange-single", 5, 2)]
    public async Task Agrees_with_the_reference_between_processes(string scenario, int ranks, int devices)
    {
        Gpu.SkipUnlessPresent(devices);
        RankProcess[] processes = RankProcess.StartAll(scenario, ranks, devices, Random.Shared.Next(1 << 20), _directory.FullName);
        try
        {
            foreach (RankProcess process in processes) await process.EndAsync();
        }
        finally
        {
            foreach (RankProcess process in processes) process.Dispose();
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Survivors_of_a_killed_process_name_it_and_go_on_in_their_context(int devices)
    {
        Gpu.SkipUnlessPresent(devices);
        RankProcess[] processes = RankProcess.StartStepping(3, devices, _directory.FullName);
        try
        {
            for (var clock = Stopwatch.StartNew(); _directory.GetFiles("stepping.*").Length < 3 && clock.Elapsed < TimeSpan.FromSeconds(30);) await Task.Delay(20, TestContext.Current.CancellationToken);
            processes[RankProcess.Victim].Kill();
            Assert.StartsWith("lost 1", await processes[0].EndAsync(), StringComparison.Ordinal);
            Assert.StartsWith("lost 1", await processes[2].EndAsync(), StringComparison.Ordinal);
        }
        finally
        {
            foreach (RankProcess process in processes) process.Dispose();
        }
    }

    [Fact]
    public async Task A_process_that_is_killed_while_its_kernel_waits_is_named_and_the_others_go_on()
    {
        Gpu.SkipUnlessPresent();
        RankProcess[] processes = RankProcess.StartWaiting(3, 1, _directory.FullName);
        try
        {
            string note = Path.Combine(_directory.FullName, RankProcess.IsInAKernel);
            for (var clock = Stopwatch.StartNew(); !File.Exists(note) && clock.Elapsed < TimeSpan.FromSeconds(30);) await Task.Delay(20, TestContext.Current.CancellationToken);
            Assert.True(File.Exists(note));
            processes[RankProcess.Victim].Kill();
            await File.WriteAllTextAsync(Path.Combine(_directory.FullName, RankProcess.Killed), "", TestContext.Current.CancellationToken);
            Assert.StartsWith("lost 1", await processes[0].EndAsync(), StringComparison.Ordinal);
            Assert.StartsWith("lost 1", await processes[2].EndAsync(), StringComparison.Ordinal);
        }
        finally
        {
            foreach (RankProcess process in processes) process.Dispose();
        }
    }

    public void Dispose() => _directory.Delete(recursive: true);
}

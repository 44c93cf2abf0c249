using System.Diagnostics;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>What takes much of a device's memory.</summary>
public sealed class WholeDeviceTests
{
    [Fact]
    public async Task A_device_without_room_for_the_engine_is_told_to_all_ranks_and_keeps_nothing()
    {
        using var gpu = new Gpu();
        CallRanks.RequireExchangeOfOthers(gpu);
        gpu.Context.Synchronize();
        long free = DeviceRoom.FreeBytes(gpu.Context);

        // Arenas that leave 300 MB; the plans of each rank take 270 MB.
        ExpertBufferOptions options = CallRanks.OptionsFor(ranks: 2) with { TopK = 8, MaxTokensPerRank = 1 << 18, Hidden = 16, Multiprocessors = 8 };
        long plans = PhysicalMemory.RoundUp(gpu.Device, options.EstimateMemory(2).DeviceHandleBytes * 8);
        foreach (TransportException error in await CallRanks.CreateRefusedAsync(2, _ => options with { MemoryBudget = (free - 300_000_000) / 2 }))
        {
            Assert.Contains($"{plans} bytes on device 0", error.Message, StringComparison.Ordinal);
            Assert.Contains("ExpertBufferOptions.MemoryBudget", error.Message, StringComparison.Ordinal);
        }
        var clock = Stopwatch.StartNew();
        while (DeviceRoom.FreeBytes(gpu.Context) < free - (plans / 2) && clock.Elapsed < TimeSpan.FromSeconds(5)) await Task.Delay(20, TestContext.Current.CancellationToken);
        Assert.InRange(DeviceRoom.FreeBytes(gpu.Context), free - (plans / 2), long.MaxValue);
    }
}

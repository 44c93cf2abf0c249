using System.Diagnostics;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>What takes much of a device's memory.</summary>
public sealed class WholeDeviceTests
{
    [Fact]
    public void A_call_for_whose_plan_the_device_has_no_memory_is_refused_on_all_ranks_and_the_next_works()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        calls.Draw();
        var held = new List<Dispatched>();
        for (int result = 0; result < 8; result++) held.AddRange(calls.InThreads(rank => calls.Dispatch(rank, default)));
        var rest = new List<PhysicalMemory>();
        try
        {
            TakeAll(gpu, rest);
            CapacityException[] errors = calls.InThreads(rank => Assert.Throws<CapacityException>(() => calls.Dispatch(rank, default)));
            Assert.All(errors, error => Assert.Equal((0, 0L, Recovery.CallAgain), (error.Rank, error.Available, error.Recovery)));
            Assert.Contains("MemoryEstimate.DeviceHandleBytes", errors[0].Message, StringComparison.Ordinal);
        }
        finally
        {
            foreach (PhysicalMemory each in rest) each.Dispose();
        }
        held.AddRange(calls.InThreads(rank => calls.Dispatch(rank, default)));
        foreach (Dispatched each in held) each.Dispose();
        calls.RequireExchange();
    }

    private static void TakeAll(Gpu gpu, List<PhysicalMemory> taken)
    {
        for (long bytes = DeviceRoom.FreeBytes(gpu.Context); bytes > 1;)
        {
            try
            {
                taken.Add(PhysicalMemory.Create(gpu.Device, bytes));
            }
            catch (CudaException full) when (full.IsOutOfMemory)
            {
                bytes /= 2;
            }
        }
    }

    [Fact]
    public async Task A_device_without_room_for_the_engine_is_told_to_all_ranks_and_keeps_nothing()
    {
        using var gpu = new Gpu();
        CallRanks.RequireExchangeOfOthers(gpu);
        gpu.Context.Synchronize();
        long free = DeviceRoom.FreeBytes(gpu.Context);

        // Arenas that leave 340 MB; the plans of each rank take 302 MB.
        ExpertBufferOptions options = CallRanks.OptionsFor(ranks: 2) with { TopK = 8, MaxTokensPerRank = 1 << 18, Hidden = 16, Multiprocessors = 8 };
        long plans = PhysicalMemory.RoundUp(gpu.Device, options.EstimateMemory(2).DeviceHandleBytes * 9);
        foreach (TransportException error in await CallRanks.CreateRefusedAsync(2, _ => options with { MemoryBudget = (free - 340_000_000) / 2 }))
        {
            Assert.Contains($"{plans} bytes on device 0", error.Message, StringComparison.Ordinal);
            Assert.Contains("ExpertBufferOptions.MemoryBudget", error.Message, StringComparison.Ordinal);
        }
        var clock = Stopwatch.StartNew();
        while (DeviceRoom.FreeBytes(gpu.Context) < free - (plans / 2) && clock.Elapsed < TimeSpan.FromSeconds(5)) await Task.Delay(20, TestContext.Current.CancellationToken);
        Assert.InRange(DeviceRoom.FreeBytes(gpu.Context), free - (plans / 2), long.MaxValue);
    }
}

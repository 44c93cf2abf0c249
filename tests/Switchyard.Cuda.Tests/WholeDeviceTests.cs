using System.Diagnostics;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>What takes much of a device's memory.</summary>
public sealed class WholeDeviceTests
{
    [Fact]
    public async Task Counts_are_known_while_rows_still_move()
    {
        using var gpu = new Gpu();
        const int Tokens = 32768, Hidden = 8192;
        using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        using ExpertBuffer buffer = await ExpertBuffer.CreateAsync(group, new() { Backend = CudaBackend.For(0), Experts = 1, TopK = 1, Hidden = Hidden, Element = ElementType.BFloat16, MaxTokensPerRank = Tokens, Multiprocessors = 4 });
        using CudaBytes x = gpu.Allocate((long)Tokens * Hidden * sizeof(short)), choices = gpu.Allocate(Tokens * sizeof(int));
        choices.Clear();
        for (int step = 0; step < 2; step++)
        {
            // Half a gigabyte to read and as much to write, with four multiprocessors: some milliseconds.
            using Dispatched received = buffer.Dispatch(
                ReadOnlyTensorView.FromPointer(x.Address, Tokens, Hidden, Hidden, ElementType.BFloat16, 0),
                ReadOnlyTensorView.FromPointer(choices.Address, Tokens, 1, 1, ElementType.Int32, 0),
                default,
                new() { Device = new() { Stream = gpu.Stream.Handle } });
            bool stillMoves = !gpu.Stream.IsIdle;
            Assert.Equal((Tokens, true), (received.RowCount, stillMoves));
            gpu.Stream.Synchronize();
        }
    }

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

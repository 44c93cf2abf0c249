using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>Two devices of one process.</summary>
public sealed class TwoDeviceTests
{
    [Fact]
    public void Memory_of_another_device_is_known_and_written_over_the_link()
    {
        Gpu.SkipUnlessPresent(devices: 2);
        using Gpu one = new(0), two = new(1);
        SkipUnlessLinked(one, two);
        using var bytes = new CudaBytes(one, 1 << 20, two.Device);
        Assert.Equal(new PointerInfo(PointerKind.Device, 0), PointerInfo.Of(two.Context, bytes.Address));
        using CudaBytes source = two.Allocate(1 << 20);
        var random = new byte[1 << 20];
        new Random(1).NextBytes(random);
        source.Write<byte>(random);
        two.Kernels.CopyRows.Enqueue(two.Stream, new DeviceRows(source.Address, 64, 16384), new DeviceRows(bytes.Address, 64, 16384));
        two.Stream.Synchronize();
        Assert.Equal(random, bytes.Read<byte>(1 << 20));
    }

    [Fact]
    public void Memory_of_another_device_is_refused_before_a_call_is_made()
    {
        Gpu.SkipUnlessPresent(devices: 2);
        using Gpu one = new(0), two = new(1);
        using var calls = new CallRanks(one, 1);
        using CudaBytes far = two.Allocate(CallRanks.Tokens * CallRanks.Hidden * sizeof(float));
        calls.Draw();
        ArgumentException error = Assert.Throws<ArgumentException>(() => calls.Buffers[0].Dispatch(
            ReadOnlyTensorView.FromPointer(far.Address, CallRanks.Tokens, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 1),
            ReadOnlyTensorView.FromPointer(calls.Indices[0], CallRanks.Tokens, CallRanks.TopK, CallRanks.TopK, ElementType.Int32, 0)));
        Assert.StartsWith("x is on device 1; this rank's backend takes memory of device 0.", error.Message, StringComparison.Ordinal);
        calls.RequireExchange();
    }

    [Fact]
    public void A_call_whose_event_is_another_devices_is_known_to_run()
    {
        Gpu.SkipUnlessPresent(devices: 2);
        using Gpu one = new(0), two = new(1);
        using var calls = new CallRanks(one, 1);
        using CudaEvent far = CudaEvent.Create(two.Context);
        using var slow = new SlowCopies(one);
        calls.RequireExchange();
        calls.Draw();
        calls.Streams[0].WaitFor(slow.DoneAfter(copies: 40));
        Assert.Throws<CudaException>(() => calls.Dispatch(0, calls.On(0) with { SignalEvent = far.Handle }));
        Assert.False(((CudaEngine)calls.Buffers[0].Engine).IsIdle);
        calls.Synchronize();
        Assert.True(((CudaEngine)calls.Buffers[0].Engine).IsIdle);
    }

    [Fact]
    public void Graphs_of_two_devices_run_again_and_again_with_other_routes()
    {
        Gpu.SkipUnlessPresent(devices: 2);
        using Gpu one = new(0), two = new(1);
        SkipUnlessLinked(one, two);
        using var calls = new CallRanks([one, two, one, two]);
        calls.RequireExchangesOfGraphs(runs: 50);
    }

    [Fact]
    public async Task A_buffer_is_given_up_on_one_device_while_a_kernel_of_another_waits_for_a_rank()
    {
        Gpu.SkipUnlessPresent(devices: 2);
        using Gpu one = new(0), two = new(1);
        SkipUnlessLinked(one, two);
        ExpertGroup[] groups = ExpertGroup.CreateLocal(2);
        Gpu[] gpus = [one, two];
        Task<ExpertBuffer[]> MakeAsync() => Task.WhenAll(groups.Select(group => ExpertBuffer.CreateAsync(
            group, CallRanks.OptionsFor(2) with { Backend = CudaBackend.For(group.Rank) }, TestContext.Current.CancellationToken)));
        ExpertBuffer[] first = await MakeAsync(), second = await MakeAsync();
        CudaBytes[] x = [.. gpus.Select(gpu => gpu.Allocate(CallRanks.Hidden * sizeof(float)))], choices = [.. gpus.Select(gpu => gpu.Allocate(CallRanks.TopK * sizeof(int)))];
        foreach (CudaBytes each in choices) each.Write<int>([0, 5, 7]);
        Dispatched Call(int rank) => second[rank].Dispatch(
            ReadOnlyTensorView.FromPointer(x[rank].Address, 1, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, rank),
            ReadOnlyTensorView.FromPointer(choices[rank].Address, 1, CallRanks.TopK, CallRanks.TopK, ElementType.Int32, rank),
            default, new() { FixedShape = true, Device = new() { Stream = gpus[rank].Stream.Handle } });

        first[1].Dispose();
        using Dispatched waits = Call(1);
        var clock = System.Diagnostics.Stopwatch.StartNew();
        first[0].Dispose();
        Assert.InRange(clock.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(5));
        using Dispatched comes = Call(0);
        foreach (Gpu gpu in gpus) gpu.Stream.Synchronize();
        foreach (ExpertBuffer each in second) each.ThrowIfFailed();

        foreach (IDisposable each in (IDisposable[])[waits, comes, .. second, .. x, .. choices, .. groups]) each.Dispose();
    }

    [Fact]
    public void Ranks_on_two_devices_meet()
    {
        Gpu.SkipUnlessPresent(devices: 2);
        using Gpu one = new(0), two = new(1);
        SkipUnlessLinked(one, two);
        using var ranks = new BarrierRanks([one, two]);
        ranks.EnqueueAll(blocks: 16, rounds: 1000);
        ranks.Synchronize();
        Assert.All(ranks.Records, record => Assert.Equal(BarrierCause.None, record.Cause));
        Assert.All(ranks.Epochs, epoch => Assert.Equal(1000ul, epoch));
    }

    private static void SkipUnlessLinked(Gpu one, Gpu two) => Assert.SkipUnless(
        two.Device.CanAccess(one.Device) && one.Device.CanAccess(two.Device), "devices 0 and 1 have no direct link");
}

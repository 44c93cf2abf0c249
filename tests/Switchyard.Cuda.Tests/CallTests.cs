using System.Diagnostics;
using Switchyard.Conformance;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>Calls as a device's user makes them: on streams, beside other work, and where a rank does not come.</summary>
[Trait("Suite", PressureTests.Reduced)]
public sealed class CallTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(8)]
    public void One_thread_drives_all_ranks_where_no_call_waits(int ranks)
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, ranks);
        for (int step = 0; step < 20; step++)
        {
            calls.Draw();
            Dispatched[] received = [.. Enumerable.Range(0, ranks).Select(rank => calls.Dispatch(rank, calls.On(rank)))];
            for (int rank = 0; rank < ranks; rank++) calls.Combine(rank, received[rank], calls.On(rank));
            calls.Synchronize();
            calls.RequireSums();
            foreach (Dispatched each in received) each.Dispose();
        }
    }

    [Fact]
    public void Work_beside_a_stream_is_ordered_by_events()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 4);
        using CudaEvent ready = CudaEvent.Create(gpu.Context);
        CudaEvent[] done = [.. calls.Streams.Select(_ => CudaEvent.Create(gpu.Context))];
        for (int step = 0; step < 20; step++)
        {
            calls.Draw();
            ready.Record(gpu.Stream);
            var received = new Dispatched[calls.Count];
            for (int rank = 0; rank < calls.Count; rank++)
            {
                DeviceOptions beside = calls.On(rank) with { Overlap = true, WaitEvent = step % 2 == 0 ? ready.Handle : 0, SignalEvent = done[rank].Handle };
                received[rank] = calls.Dispatch(rank, beside);
                calls.Combine(rank, received[rank], beside with { WaitEvent = 0 });
                calls.Streams[rank].WaitFor(done[rank]);
            }
            calls.Synchronize();
            calls.RequireSums();
            foreach (Dispatched each in received) each.Dispose();
        }
        foreach (CudaEvent each in done) each.Dispose();
    }


    [Fact]
    public async Task Room_that_alignment_leaves_may_be_full_of_rows_that_are_pre_reduced()
    {
        using var gpu = new Gpu();
        const int Tokens = 131_072, Hidden = 4, Experts = 256, TopK = 8;
        using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        ExpertBufferOptions options = new()
        {
            Backend = CudaBackend.For(0),
            Experts = Experts,
            TopK = TopK,
            Hidden = Hidden,
            MaxTokensPerRank = Tokens,
            Element = ElementType.Single,
            ReceiveCapacity = Experts,
            MemoryBudget = 256 << 20,
        };
        using ExpertBuffer buffer = await ExpertBuffer.CreateAsync(group, options, TestContext.Current.CancellationToken);
        using CudaBytes x = gpu.Allocate(Tokens * Hidden * sizeof(float)), choices = gpu.Allocate(Tokens * TopK * sizeof(int)), output = gpu.Allocate(x.Bytes);
        float[] rows = [.. Enumerable.Range(0, Tokens * Hidden).Select(i => (float)(i % 1009))];
        x.Write<float>(rows);
        choices.Write<int>([.. Enumerable.Range(0, Tokens * TopK).Select(i => i % Experts)]);
        using Dispatched received = buffer.Dispatch(
            ReadOnlyTensorView.FromPointer(x.Address, Tokens, Hidden, Hidden, ElementType.Single, 0),
            ReadOnlyTensorView.FromPointer(choices.Address, Tokens, TopK, TopK, ElementType.Int32, 0),
            default, new() { Layout = RowLayout.ExpertMajor, ExpertAlignment = Limits.MaxExpertAlignment, PreReduce = true });
        Assert.Equal(Tokens * TopK, received.RowCount); // as many as are aligned, of which the capacity is a part in 4096
        buffer.Combine(received.Rows, received.Handle, TensorView.FromPointer(output.Address, Tokens, Hidden, Hidden, ElementType.Single, 0));
        Assert.Equal(rows.Select(value => TopK * value), output.Read<float>(rows.Length));
    }

    [Fact]
    public void What_may_be_asked_at_any_time_may_be_asked_when_the_memory_is_given_back()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        calls.RequireExchange();
        TimeSpan waited = calls.Buffers[0].WaitedFor(1);
        foreach (ExpertBuffer buffer in calls.Buffers) buffer.Dispose();
        for (int look = 0; look < 20; look++)
        {
            Assert.Equal(waited, calls.Buffers[0].WaitedFor(1));
            calls.Buffers[0].Deadline = TimeSpan.FromSeconds(1 + look);
            Assert.Equal(TimeSpan.FromSeconds(1 + look), calls.Buffers[0].Deadline);
            Thread.Sleep(10);
        }
        CallRanks.RequireExchangeOfOthers(gpu);
    }

    [Fact]
    public void A_rank_that_never_comes_is_named_by_all_and_the_device_works_on()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3, deadline: TimeSpan.FromMilliseconds(300));
        calls.Draw();
        var clock = Stopwatch.StartNew();
        PeerTimeoutException[] errors = [.. calls.InThreads(rank => Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(rank, default)), ranks: 2)];
        Assert.InRange(clock.Elapsed, TimeSpan.FromMilliseconds(250), TimeSpan.FromSeconds(3));
        Assert.All(errors, error => Assert.Equal((2, CallPhase.AwaitAnnouncement, 1L, 0L), (error.Peer.Rank, error.Site.Phase, error.Expected, error.Seen)));
        Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(0, default));
        gpu.Context.Synchronize();
        CallRanks.RequireExchangeOfOthers(gpu);
    }

    [Fact]
    public void A_thread_that_waits_for_a_rank_of_its_own_is_told_so()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, deadline: TimeSpan.FromMilliseconds(300));
        calls.Draw();
        PeerTimeoutException error = Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(0, default));
        Assert.Contains("a thread of its own", error.Message, StringComparison.Ordinal);
        PeerTimeoutException late = Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(1, default));
        Assert.DoesNotContain("a thread of its own", late.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_rank_that_leaves_ends_the_waits_for_it()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3);
        calls.Draw();
        Task<PeerLostException[]> waiting = Task.Run(() => calls.InThreads(rank => Assert.Throws<PeerLostException>(() => calls.Dispatch(rank, default)), ranks: 2), TestContext.Current.CancellationToken);
        await Task.Delay(100, TestContext.Current.CancellationToken);
        calls.Group(2).Dispose();
        var clock = Stopwatch.StartNew();
        Assert.All(await waiting, error => Assert.Equal(2, error.Peer.Rank));
        Assert.InRange(clock.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(1));
    }

    [Theory, Trait("Races", "Shared")]
    [InlineData(RowLayout.RankMajor, false)]
    [InlineData(RowLayout.ExpertMajor, false)]
    [InlineData(RowLayout.ExpertMajor, true)]
    public void One_rank_exchanges_with_itself(RowLayout layout, bool isPreReduced)
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1, capacity: CallRanks.Tokens * CallRanks.TopK);
        calls.Draw();
        using Dispatched received = calls.DispatchWith(0, new() { FixedShape = true, Layout = layout, PreReduce = isPreReduced, Device = calls.On(0) });
        calls.Combine(0, received, calls.On(0));
        calls.Synchronize();
        calls.RequireSums(layout);
    }

    [Fact, Trait("Races", "Shared")]
    public void One_rank_quantizes_its_rows_on_the_way_to_itself()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        using Dispatched received = calls.DispatchWith(0, new() { Quantize = Float8Scaling.Single });
        RowSource[] sources = calls.Read<RowSource>(0, received.SourcesView.Address, received.RowCount);
        byte[] rows = calls.Read<byte>(0, received.Rows.Address, received.RowCount * CallRanks.Hidden);
        Assert.Equal(calls.RowsOfTheFirst, received.RowCount);
        for (int row = 0; row < sources.Length; row++)
        {
            byte[] expected = PlainQuantizer.Quantize(calls.XOnHost[0][(sources[row].Token * CallRanks.Hidden)..][..CallRanks.Hidden], Float8Scaling.Single)[..CallRanks.Hidden];
            Assert.Equal(expected, rows.AsSpan(row * CallRanks.Hidden, CallRanks.Hidden));
        }
    }

    [Fact]
    public void A_call_that_does_not_wait_allocates_nothing()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        DeviceOptions device = calls.On(0);
        long before = 0;
        for (int step = 0; step < 60; step++)
        {
            if (step == 40) before = GC.GetAllocatedBytesForCurrentThread();
            Dispatched received = calls.Dispatch(0, device);
            calls.Combine(0, received, device);
            received.Dispose();
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        calls.Synchronize();
        calls.RequireSums();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    public unsafe void A_call_takes_as_many_multiprocessors_as_it_is_told(int multiprocessors)
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        const int Blocks = 16;
        using PinnedMemory noted = PinnedMemory.Allocate(gpu.Context, Blocks * sizeof(DispatchMarks));
        calls.Draw();
        var engine = (CudaEngine)calls.Buffers[0].Engine;
        engine.Marks = noted.DeviceAddress;
        calls.Dispatch(0, new() { Multiprocessors = multiprocessors }).Dispose();
        engine.Marks = 0;
        var marks = new ReadOnlySpan<DispatchMarks>((void*)noted.Handle, Blocks);
        for (int block = 0; block < Blocks; block++) Assert.Equal(block < multiprocessors, marks[block].Begun != 0);
    }
}

using Switchyard.Cuda.Driver;
using Switchyard.Protocol;

namespace Switchyard.Cuda.Tests;

/// <summary>What a device's buffers and calls refuse, before or after it is enqueued, and that all ranks go on from there.</summary>
[Trait("Suite", PressureTests.Reduced)]
public sealed class RefusalTests
{
    [Fact]
    public void Wrong_choices_on_the_device_are_told_to_all_ranks_and_the_next_call_works()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3);
        calls.Draw();
        foreach (int[] wrong in new[] { new[] { 1, CallRanks.Experts, 2 }, [5, -2, 1], [4, 1, 4] })
        {
            calls.Write<int>(1, calls.Indices[1] + (7 * CallRanks.TopK * sizeof(int)), wrong);
            RoutingException[] errors = [.. calls.InThreads(rank => Assert.Throws<RoutingException>(() => calls.Dispatch(rank, default, isFixed: false)))];
            Assert.All(errors, error => Assert.Equal((1, 7, Recovery.CallAgain), (error.Rank, error.Token, error.Recovery)));
            Assert.All(errors, error => Assert.Contains(error.Expert, wrong.Select(expert => (long)expert)));
        }
        calls.Draw();
        Dispatched[] received = [.. calls.InThreads(rank => calls.Dispatch(rank, default, isFixed: false))];
        _ = calls.InThreads(rank =>
        {
            calls.Combine(rank, received[rank], default);
            return 0;
        });
        calls.RequireSums();
    }


    [Fact]
    public void Memory_that_is_not_the_devices_or_not_aligned_is_refused()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        float[] host = new float[CallRanks.Hidden];
        int[] none = new int[CallRanks.TopK];
        ArgumentException error = Assert.Throws<ArgumentException>(() => calls.Buffers[0].Dispatch(host, none));
        Assert.Contains("topkIndices is not in device memory", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => calls.Buffers[0].Dispatch(
            ReadOnlyTensorView.FromPointer(calls.X[0] + 4, 1, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0),
            ReadOnlyTensorView.FromPointer(calls.Indices[0], 1, CallRanks.TopK, CallRanks.TopK, ElementType.Int32, 0)));
        Assert.Contains("multiples of 16", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => calls.Buffers[0].Dispatch(
            ReadOnlyTensorView.FromPointer(calls.X[0], 2, CallRanks.Hidden, CallRanks.Hidden + 1, ElementType.Single, 0),
            ReadOnlyTensorView.FromPointer(calls.Indices[0], 2, CallRanks.TopK, CallRanks.TopK, ElementType.Int32, 0)));
        Assert.Contains("260 apart: all three must be multiples of 16", error.Message, StringComparison.Ordinal);
        using PinnedMemory pinned = PinnedMemory.Allocate(gpu.Context, CallRanks.Hidden * sizeof(float));
        error = Assert.Throws<ArgumentException>(() => calls.Buffers[0].Dispatch(
            ReadOnlyTensorView.FromPointer(pinned.Handle, 1, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0),
            ReadOnlyTensorView.FromPointer(calls.Indices[0], 1, CallRanks.TopK, CallRanks.TopK, ElementType.Int32, 0)));
        Assert.Contains("x is not in device memory", error.Message, StringComparison.Ordinal);
        using (Dispatched received = calls.Dispatch(0, default))
        {
            error = Assert.Throws<ArgumentException>(() => calls.Buffers[0].Combine(
                received.Rows, received.Handle, TensorView.FromPointer(calls.Output[0] + 4, CallRanks.Tokens, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0)));
            Assert.Contains("output lies at", error.Message, StringComparison.Ordinal);
            calls.Combine(0, received, default);
        }
        calls.RequireSums();
    }


    [Fact]
    public void More_blocks_than_run_at_once_are_refused()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 4);
        int most = gpu.Device.MultiprocessorCount / 4;
        ArgumentOutOfRangeException error = Assert.Throws<ArgumentOutOfRangeException>(() => calls.Dispatch(0, new() { Multiprocessors = most + 1 }));
        Assert.Contains($"must be 1 to {most}", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => calls.Dispatch(0, new() { Overlap = true }));
    }


    [Fact]
    public async Task A_buffer_that_would_take_more_blocks_than_run_at_once_is_refused_on_all_ranks()
    {
        using var gpu = new Gpu();
        int most = gpu.Device.MultiprocessorCount / 2;
        ExpertBufferOptions options = CallRanks.OptionsFor(ranks: 2);
        TransportException[] errors = await CallRanks.CreateRefusedAsync(2, rank => options with { Multiprocessors = rank == 1 ? most + 1 : 1 });
        Assert.All(errors, error => Assert.Contains($"ExpertBufferOptions.Multiprocessors is {most + 1}, but must be 1 to {most}", error.Message, StringComparison.Ordinal));
        Assert.StartsWith("Rank 1:", errors[0].Message, StringComparison.Ordinal);

        // So many tokens take more blocks than each of so many ranks has.
        errors = await CallRanks.CreateRefusedAsync(64, _ => options with { MaxTokensPerRank = 1 << 20, TopK = 1, ReceiveCapacity = 1000, Multiprocessors = null });
        Assert.All(errors, error => Assert.Contains("ExpertBufferOptions.MaxTokensPerRank is 1048576, but must be 1 to", error.Message, StringComparison.Ordinal));
    }


    [Fact]
    public async Task Rows_that_the_device_cannot_move_are_refused_when_a_buffer_is_made()
    {
        using var gpu = new Gpu();
        ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        ArgumentException error = await Assert.ThrowsAsync<ArgumentException>(() => ExpertBuffer.CreateAsync(group, CallRanks.OptionsFor(1) with { Hidden = 9 }));
        Assert.Contains("ExpertBufferOptions.Hidden is 9: rows of 36 bytes", error.Message, StringComparison.Ordinal);
        Assert.Contains("multiples of 16", error.Message, StringComparison.Ordinal);
        (await ExpertBuffer.CreateAsync(group, CallRanks.OptionsFor(1))).Dispose();
        group.Dispose();
    }


    [Fact]
    public void Rows_beyond_the_capacity_are_refused_by_all_when_they_look()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, capacity: 3);
        calls.Draw();
        Dispatched[] received = [.. Enumerable.Range(0, 2).Select(rank => calls.Dispatch(rank, calls.On(rank)))];
        calls.Synchronize();
        // It brought nothing.
        for (int rank = 0; rank < 2; rank++) Assert.Equal(-1, calls.Read<int>(rank, received[rank].SourcesView.Address, 6).AsSpan().IndexOfAnyExcept(-1));
        // The next call tells, and is not made.
        for (int rank = 0; rank < 2; rank++)
        {
            int at = rank;
            CapacityException error = Assert.Throws<CapacityException>(() => calls.Dispatch(at, calls.On(at)));
            Assert.Equal((3L, "rows"), (error.Available, error.Unit));
        }
        foreach (Dispatched each in received) each.Dispose();
        calls.ChooseNothing();
        _ = calls.InThreads(rank =>
        {
            calls.Dispatch(rank, default, isFixed: false).Dispose();
            return 0;
        });
    }

    [Fact]
    public void A_rank_without_memory_refuses_for_all_however_far_they_are_ahead()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, budget: 1 << 16);
        calls.Draw();
        var held = new List<Dispatched>();
        int room = calls.RoomFor();

        // Rank 0 keeps what it receives, until it can take no more; rank 1 gives it back.
        for (int step = 0; step < room; step++)
        {
            held.Add(calls.Dispatch(0, calls.On(0)));
            calls.Dispatch(1, calls.On(1)).Dispose();
        }
        calls.Draw();
        Dispatched[] ahead = [calls.Dispatch(1, calls.On(1)), calls.Dispatch(1, calls.On(1))];
        calls.Combine(1, ahead[0], calls.On(1));
        CapacityException error = Assert.Throws<CapacityException>(() => calls.Dispatch(0, calls.On(0)));
        Assert.Equal((0, "bytes", (3L * room) + 3), (error.Rank, error.Unit, error.Site.Epoch));
        calls.Synchronize();

        // What rank 1 enqueued behind did nothing: nobody received a row, and no sum was written.
        Assert.All(ahead, each => Assert.Equal(-1, calls.Read<int>(1, each.SourcesView.Address, 2 * each.RowCount).AsSpan().IndexOfAnyExcept(-1)));
        Assert.All(ahead, each => Assert.Equal(0, calls.Read<int>(1, each.Counts.Address, 1)[0]));
        Assert.Equal(-1, calls.Read<byte>(1, calls.Output[1], CallRanks.Tokens * CallRanks.Hidden * sizeof(float)).AsSpan().IndexOfAnyExcept((byte)0xA5));
        foreach (Dispatched each in held.Concat(ahead)) each.Dispose();
        CapacityException later = Assert.Throws<CapacityException>(() => calls.Dispatch(1, calls.On(1)));
        Assert.Equal((error.Rank, error.Needed, error.Available, error.Site), (later.Rank, later.Needed, later.Available, later.Site));
        Assert.Equal((0, 2), (error.CallsBehind, later.CallsBehind));
        Assert.Contains("had enqueued 2 calls behind it, which did nothing", later.Message, StringComparison.Ordinal);
        for (int step = 0; step < 3; step++) calls.RequireExchange();
    }

    [Fact]
    public void A_refusal_that_was_not_waited_for_is_thrown_once_by_the_next_call_that_waits_or_is_not_made()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, capacity: 3);
        using var slow = new SlowCopies(gpu);
        // Once before: the first calls take the host longer than the device is kept waiting.
        calls.ChooseNothing();
        foreach (Dispatched each in calls.InThreads(rank => calls.Dispatch(rank, default, isFixed: false))) each.Dispose();
        for (int rank = 0; rank < 2; rank++) calls.Dispatch(rank, calls.On(rank)).Dispose();
        calls.Synchronize();
        calls.Draw();
        CudaEvent late = slow.DoneAfter(copies: 40);
        foreach (CudaStream stream in calls.Streams) stream.WaitFor(late);
        Dispatched[] received = [.. Enumerable.Range(0, 2).Select(rank => calls.Dispatch(rank, calls.On(rank)))];

        // Rank 0 calls on before the device has come to the verdict, and waits; rank 1 calls on afterwards.
        CapacityException[] errors = calls.InThreads(rank =>
        {
            if (rank == 1) calls.Streams[1].Synchronize();
            return Assert.Throws<CapacityException>(() => calls.Dispatch(rank, calls.On(rank), isFixed: false));
        });
        Assert.All(errors, error => Assert.Equal((3L, "rows", 3L, Operation.Dispatch), (error.Available, error.Unit, error.Site.Epoch, error.Site.Operation)));
        Assert.Equal([1, 0], errors.Select(error => error.CallsBehind));

        // It brought nothing: there is nothing to combine, on any rank.
        VoidHandleException[] empty =
        [
            .. calls.InThreads(rank => Assert.Throws<VoidHandleException>(() => calls.Combine(rank, received[rank], default))),
            .. calls.InThreads(rank => Assert.Throws<VoidHandleException>(() => calls.Dispatch(rank, received[rank].Handle, default))),
        ];
        Assert.Equal([(0, 0, 4L), (0, 0, 4L), (0, 0, 5L), (0, 0, 5L)], empty.Select(error => (error.Rank, error.CallsBehind, error.Site.Epoch)));
        foreach (Dispatched each in received) each.Dispose();
        calls.ChooseNothing();
        for (int step = 0; step < 3; step++) Assert.All(calls.InThreads(rank => calls.Dispatch(rank, calls.On(rank), isFixed: false)), each => Assert.Equal(0, each.RowCount));
    }
}

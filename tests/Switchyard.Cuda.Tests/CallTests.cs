using System.Diagnostics;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>Calls as a device's user makes them: on streams, beside other work, in graphs; and what is refused.</summary>
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
            Dispatched[] received = [.. Enumerable.Range(0, ranks).Select(rank => calls.Dispatch(rank, On(calls, rank)))];
            for (int rank = 0; rank < ranks; rank++) calls.Combine(rank, received[rank], On(calls, rank));
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
                DeviceOptions beside = On(calls, rank) with { Overlap = true, WaitEvent = step % 2 == 0 ? ready.Handle : 0, SignalEvent = done[rank].Handle };
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
    public void A_call_waits_for_its_event_and_not_for_what_the_stream_holds()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using CudaEvent ready = CudaEvent.Create(gpu.Context);
        CudaEvent[] done = [.. calls.Streams.Select(_ => CudaEvent.Create(gpu.Context))];
        const int Bytes = 64 << 20;
        using PinnedMemory source = PinnedMemory.Allocate(gpu.Context, Bytes);
        using CudaBytes target = gpu.Allocate(Bytes), rows = gpu.Allocate(calls.Count * CallRanks.Tokens * CallRanks.Hidden * sizeof(float));
        // Copies from the host, some milliseconds each, leave the multiprocessors alone.
        void Keep(CudaStream stream, int copies)
        {
            for (int copy = 0; copy < copies; copy++) stream.Copy(target.Address, source.Handle, Bytes);
        }
        calls.Draw();
        for (int rank = 0; rank < calls.Count; rank++)
        {
            rows.Write<float>(calls.XOnHost[rank], (long)rank * calls.XOnHost[rank].Length * sizeof(float));
            gpu.Stream.Fill(calls.X[rank], 0xA5, calls.XOnHost[rank].Length * sizeof(float));
        }
        gpu.Stream.Synchronize();

        // The rows come late, before the event; the ranks' own streams are busy far longer.
        Keep(gpu.Stream, 2);
        for (int rank = 0; rank < calls.Count; rank++)
            gpu.Stream.Copy(calls.X[rank], rows.Address + (rank * calls.XOnHost[rank].Length * sizeof(float)), calls.XOnHost[rank].Length * sizeof(float));
        ready.Record(gpu.Stream);
        foreach (CudaStream stream in calls.Streams) Keep(stream, 40);
        var received = new Dispatched[calls.Count];
        for (int rank = 0; rank < calls.Count; rank++)
        {
            DeviceOptions beside = On(calls, rank) with { Overlap = true, WaitEvent = ready.Handle, SignalEvent = done[rank].Handle };
            received[rank] = calls.Dispatch(rank, beside);
            calls.Combine(rank, received[rank], beside);
        }
        foreach (CudaEvent each in done) each.Synchronize();
        Assert.All(calls.Streams, stream => Assert.False(stream.IsIdle));
        calls.RequireSums();
        calls.Synchronize();
        foreach (Dispatched each in received) each.Dispose();
        foreach (CudaEvent each in done) each.Dispose();
    }

    [Fact]
    public void Room_for_results_may_be_written_only_when_those_of_before_were_read()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1, budget: 54 << 7); // a result and its room for results
        using CudaEvent late = CudaEvent.Create(gpu.Context), done = CudaEvent.Create(gpu.Context);
        const int Bytes = 64 << 20, ResultBytes = CallRanks.Tokens * CallRanks.Hidden * sizeof(float);
        using PinnedMemory source = PinnedMemory.Allocate(gpu.Context, Bytes);
        using CudaBytes target = gpu.Allocate(Bytes);
        CudaStream stream = calls.Streams[0];
        calls.Draw();
        Dispatched first = calls.Dispatch(0, On(calls, 0));
        nint place = first.ResultRows.Address;
        stream.Copy(place, first.Rows.Address, ResultBytes);
        stream.Synchronize();

        // The combine and what follows it on the buffer's stream come late; the caller's own stream has nothing to wait for.
        for (int copy = 0; copy < 4; copy++) gpu.Stream.Copy(target.Address, source.Handle, Bytes);
        late.Record(gpu.Stream);
        DeviceOptions beside = On(calls, 0) with { Overlap = true, WaitEvent = late.Handle, SignalEvent = done.Handle };
        calls.Combine(0, first.ResultRows, first.Handle, beside);
        first.Dispose();
        using Dispatched second = calls.Dispatch(0, beside);
        nint again = second.ResultRows.Address;
        bool wasLate = !done.IsDone;
        stream.Fill(again, 0xA5, ResultBytes);
        calls.Synchronize();
        done.Synchronize();
        Assert.Equal((place, true), (again, wasLate));
        calls.RequireSums();
    }

    [Fact]
    public void Buffers_are_given_up_while_a_stream_is_captured_for_all_threads()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using CudaEvent late = CudaEvent.Create(gpu.Context);
        const int Bytes = 64 << 20;
        using PinnedMemory source = PinnedMemory.Allocate(gpu.Context, Bytes);
        using CudaBytes target = gpu.Allocate(Bytes);
        using CudaStream captured = CudaStream.Create(gpu.Context);
        calls.Draw();
        for (int copy = 0; copy < 20; copy++) gpu.Stream.Copy(target.Address, source.Handle, Bytes);
        late.Record(gpu.Stream);
        for (int rank = 0; rank < calls.Count; rank++) calls.Dispatch(rank, On(calls, rank) with { Overlap = true, WaitEvent = late.Handle });

        // What they hold is given back when their calls are done, by a thread that looks for that meanwhile.
        foreach (ExpertBuffer buffer in calls.Buffers) buffer.Dispose();
        using Graph graph = Graph.Capture(captured, () => Thread.Sleep(200), CUstreamCaptureMode.GLOBAL);
        gpu.Context.Synchronize();
    }

    [Fact]
    public void A_graph_that_runs_without_a_rank_ends_at_the_deadline_and_from_then_on_at_once()
    {
        using var gpu = new Gpu();
        using (var calls = new CallRanks(gpu, 3))
        {
            calls.Draw();
            for (int rank = 0; rank < calls.Count; rank++) calls.Dispatch(rank, On(calls, rank)).Dispose();
            calls.Synchronize();
            Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () => calls.Dispatch(rank, On(calls, rank))))];
            foreach (ExpertBuffer buffer in calls.Buffers) buffer.Deadline = TimeSpan.FromMilliseconds(300);
            var clock = Stopwatch.StartNew();
            for (int rank = 0; rank < 2; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            Assert.InRange(clock.Elapsed, TimeSpan.FromMilliseconds(250), TimeSpan.FromSeconds(3));
            for (int rank = 0; rank < 2; rank++) Assert.Equal(2, Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(rank, On(calls, rank))).Peer.Rank);
            clock.Restart();
            for (int rank = 0; rank < 2; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            Assert.InRange(clock.Elapsed, TimeSpan.Zero, TimeSpan.FromMilliseconds(200));
            foreach (Graph graph in graphs) graph.Dispose();
        }
        using var others = new CallRanks(gpu, 2);
        others.Draw();
        Dispatched[] received = [.. Enumerable.Range(0, 2).Select(rank => others.Dispatch(rank, On(others, rank)))];
        for (int rank = 0; rank < 2; rank++) others.Combine(rank, received[rank], On(others, rank));
        others.Synchronize();
        others.RequireSums();
    }

    [Fact]
    public void A_graph_of_calls_runs_again_and_again_with_other_routes()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3);
        calls.Draw();
        // Once before: what a first call takes is not taken while a stream is captured.
        Dispatched[] first = [.. Enumerable.Range(0, calls.Count).Select(rank => calls.Dispatch(rank, On(calls, rank)))];
        for (int rank = 0; rank < calls.Count; rank++) calls.Combine(rank, first[rank], On(calls, rank));
        calls.Synchronize();
        foreach (Dispatched each in first) each.Dispose();
        var received = new Dispatched[calls.Count];
        Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () =>
        {
            received[rank] = calls.Dispatch(rank, On(calls, rank));
            calls.Combine(rank, received[rank], On(calls, rank));
        }))];
        for (int run = 0; run < 50; run++)
        {
            calls.Draw();
            for (int rank = 0; rank < calls.Count; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            calls.RequireSums();
        }
        foreach (Graph graph in graphs) graph.Dispose();

        // Calls outside of graphs go on with what graphs have counted.
        calls.Draw();
        Dispatched[] after = [.. Enumerable.Range(0, calls.Count).Select(rank => calls.Dispatch(rank, On(calls, rank)))];
        for (int rank = 0; rank < calls.Count; rank++) calls.Combine(rank, after[rank], On(calls, rank));
        calls.Synchronize();
        calls.RequireSums();
    }

    /// <summary>What a graph can hold beside plain calls.</summary>
    public enum Captured
    {
        BesideTheStream,
        ExpertMajor,
        PreReduced,
        ByHandle,
        ResultsElsewhere,
    }

    [Theory]
    [InlineData(Captured.BesideTheStream)]
    [InlineData(Captured.ExpertMajor)]
    [InlineData(Captured.PreReduced)]
    [InlineData(Captured.ByHandle)]
    [InlineData(Captured.ResultsElsewhere)]
    public void Every_call_that_does_not_wait_can_be_captured(Captured kind)
    {
        using var gpu = new Gpu();
        RowLayout layout = kind is Captured.ExpertMajor or Captured.PreReduced ? RowLayout.ExpertMajor : RowLayout.RankMajor;
        const int Ranks = 3;
        int rows = Ranks * CallRanks.Tokens * (layout == RowLayout.ExpertMajor ? CallRanks.TopK : 1);
        using var calls = new CallRanks(gpu, Ranks, capacity: rows);
        CudaEvent[] done = [.. calls.Streams.Select(_ => CudaEvent.Create(gpu.Context))];
        CudaBytes[] elsewhere = [.. calls.Streams.Select(_ => gpu.Allocate(rows * CallRanks.Hidden * sizeof(float)))];
        var held = new List<IDisposable>();
        void Step(int rank)
        {
            DeviceOptions device = On(calls, rank) with { Overlap = kind == Captured.BesideTheStream, SignalEvent = done[rank].Handle };
            Dispatched received = calls.DispatchWith(rank, new() { FixedShape = true, Layout = layout, PreReduce = kind == Captured.PreReduced, Device = device });
            held.Add(received);
            Dispatched summed = kind == Captured.ByHandle ? calls.Dispatch(rank, received.Handle, device) : received;
            if (kind == Captured.ByHandle) held.Add(summed);
            ReadOnlyTensorView results = summed.Rows;
            if (kind == Captured.ResultsElsewhere)
            {
                calls.Streams[rank].Copy(elsewhere[rank].Address, results.Address, (long)results.Rows * CallRanks.Hidden * sizeof(float));
                results = ReadOnlyTensorView.FromPointer(elsewhere[rank].Address, (int)results.Rows, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0);
            }
            calls.Combine(rank, results, received.Handle, device);
            calls.Streams[rank].WaitFor(done[rank]);
        }
        // Once before: what a first call takes is not taken while a stream is captured.
        calls.Draw();
        for (int rank = 0; rank < calls.Count; rank++) Step(rank);
        calls.Synchronize();
        calls.RequireSums(layout);
        foreach (IDisposable each in held) each.Dispose();
        held.Clear();
        Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () => Step(rank)))];
        for (int run = 0; run < 20; run++)
        {
            calls.Draw();
            for (int rank = 0; rank < calls.Count; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            calls.RequireSums(layout);
        }
        foreach (Graph graph in graphs) graph.Dispose();
        foreach (IDisposable each in held) each.Dispose();
        foreach (CudaBytes each in elsewhere) each.Dispose();
        foreach (CudaEvent each in done) each.Dispose();
    }

    [Fact]
    public void A_call_that_waits_for_counts_cannot_be_captured()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        InvalidOperationException? error = null;
        using Graph graph = Graph.Capture(calls.Streams[0], () => error = Assert.Throws<InvalidOperationException>(() => calls.Dispatch(0, On(calls, 0), isFixed: false)));
        Assert.Contains("DispatchOptions.FixedShape", error!.Message, StringComparison.Ordinal);
        using Dispatched after = calls.Dispatch(0, On(calls, 0), isFixed: false);
        Assert.Equal(ExpectedRows(calls), after.RowCount);
    }

    [Fact]
    public void Wrong_choices_on_the_device_are_told_to_all_ranks_and_the_next_call_works()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3);
        calls.Draw();
        foreach (int[] wrong in new[] { new[] { 1, CallRanks.Experts, 2 }, [5, -2, 1], [4, 1, 4] })
        {
            calls.Write<int>(1, calls.Indices[1] + (7 * CallRanks.TopK * sizeof(int)), wrong);
            RoutingException[] errors = [.. InThreads(calls, rank => Assert.Throws<RoutingException>(() => calls.Dispatch(rank, default, isFixed: false)))];
            Assert.All(errors, error => Assert.Equal((1, 7, Recovery.CallAgain), (error.Rank, error.Token, error.Recovery)));
            Assert.All(errors, error => Assert.Contains(error.Expert, wrong.Select(expert => (long)expert)));
        }
        calls.Draw();
        Dispatched[] received = [.. InThreads(calls, rank => calls.Dispatch(rank, default, isFixed: false))];
        _ = InThreads(calls, rank =>
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
        TransportException[] errors = await RefusedAsync(2, rank => options with { Multiprocessors = rank == 1 ? most + 1 : 1 });
        Assert.All(errors, error => Assert.Contains($"ExpertBufferOptions.Multiprocessors is {most + 1}, but must be 1 to {most}", error.Message, StringComparison.Ordinal));
        Assert.StartsWith("Rank 1:", errors[0].Message, StringComparison.Ordinal);

        // So many tokens take more blocks than each of so many ranks has.
        errors = await RefusedAsync(64, _ => options with { MaxTokensPerRank = 1 << 20, TopK = 1, ReceiveCapacity = 1000, Multiprocessors = null });
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
    public void A_rank_that_never_comes_is_named_by_all_and_the_device_works_on()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3, deadline: TimeSpan.FromMilliseconds(300));
        calls.Draw();
        var clock = Stopwatch.StartNew();
        PeerTimeoutException[] errors = [.. InThreads(calls, rank => Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(rank, default)), ranks: 2)];
        Assert.InRange(clock.Elapsed, TimeSpan.FromMilliseconds(250), TimeSpan.FromSeconds(3));
        Assert.All(errors, error => Assert.Equal((2, CallPhase.AwaitAnnouncement, 1L, 0L), (error.Peer.Rank, error.Site.Phase, error.Expected, error.Seen)));
        Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(0, default));
        gpu.Context.Synchronize();
        using var others = new CallRanks(gpu, 2);
        others.Draw();
        Dispatched[] received = [.. Enumerable.Range(0, 2).Select(rank => others.Dispatch(rank, On(others, rank)))];
        for (int rank = 0; rank < 2; rank++) others.Combine(rank, received[rank], On(others, rank));
        others.Synchronize();
        others.RequireSums();
    }

    [Fact]
    public async Task A_rank_that_leaves_ends_the_waits_for_it()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3);
        calls.Draw();
        Task<PeerLostException[]> waiting = Task.Run(() => InThreads(calls, rank => Assert.Throws<PeerLostException>(() => calls.Dispatch(rank, default)), ranks: 2), TestContext.Current.CancellationToken);
        await Task.Delay(100, TestContext.Current.CancellationToken);
        calls.Group(2).Dispose();
        var clock = Stopwatch.StartNew();
        Assert.All(await waiting, error => Assert.Equal(2, error.Peer.Rank));
        Assert.InRange(clock.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Rows_beyond_the_capacity_are_refused_by_all_when_they_look()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, capacity: 3);
        calls.Draw();
        Dispatched[] received = [.. Enumerable.Range(0, 2).Select(rank => calls.Dispatch(rank, On(calls, rank)))];
        calls.Synchronize();
        // It brought nothing.
        for (int rank = 0; rank < 2; rank++) Assert.Equal(-1, calls.Read<int>(rank, received[rank].SourcesView.Address, 6).AsSpan().IndexOfAnyExcept(-1));
        // The next call tells, and is not made.
        for (int rank = 0; rank < 2; rank++)
        {
            int at = rank;
            CapacityException error = Assert.Throws<CapacityException>(() => calls.Dispatch(at, On(calls, at)));
            Assert.Equal((3L, "rows"), (error.Available, error.Unit));
        }
        foreach (Dispatched each in received) each.Dispose();
        for (int rank = 0; rank < 2; rank++) calls.Write<int>(rank, calls.Indices[rank], Enumerable.Repeat(-1, CallRanks.Tokens * CallRanks.TopK).ToArray());
        _ = InThreads(calls, rank =>
        {
            calls.Dispatch(rank, default, isFixed: false).Dispose();
            return 0;
        });
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
        using Dispatched received = calls.DispatchWith(0, new() { FixedShape = true, Layout = layout, PreReduce = isPreReduced, Device = On(calls, 0) });
        calls.Combine(0, received, On(calls, 0));
        calls.Synchronize();
        calls.RequireSums(layout);
    }

    [Fact]
    public void A_call_that_does_not_wait_allocates_nothing()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        DeviceOptions device = On(calls, 0);
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

    private static async Task<TransportException[]> RefusedAsync(int ranks, Func<int, ExpertBufferOptions> options)
    {
        ExpertGroup[] groups = ExpertGroup.CreateLocal(ranks);
        TransportException[] errors = await Task.WhenAll(groups.Select(group => Assert.ThrowsAsync<TransportException>(() => ExpertBuffer.CreateAsync(group, options(group.Rank)))));
        foreach (ExpertGroup group in groups) group.Dispose();
        return errors;
    }

    private static DeviceOptions On(CallRanks calls, int rank) => new() { Stream = calls.Streams[rank].Handle };

    private static int ExpectedRows(CallRanks calls) =>
        Enumerable.Range(0, CallRanks.Tokens).Count(token => calls.ChoicesOnHost[0].AsSpan(token * CallRanks.TopK, CallRanks.TopK).ContainsAnyExcept(-1));

    private static T[] InThreads<T>(CallRanks calls, Func<int, T> call, int? ranks = null)
    {
        Task<T>[] tasks = [.. Enumerable.Range(0, ranks ?? calls.Count).Select(rank => Task.Factory.StartNew(
            () => call(rank), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        return Task.WhenAll(tasks).WaitAsync(TimeSpan.FromSeconds(30)).GetAwaiter().GetResult();
    }
}

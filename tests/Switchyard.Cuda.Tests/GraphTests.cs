using System.Diagnostics;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>Calls that are captured into graphs, to run again and again.</summary>
[Trait("Suite", PressureTests.Reduced)]
public sealed class GraphTests
{
    [Fact]
    public void A_graph_that_runs_without_a_rank_ends_at_the_deadline_and_from_then_on_at_once()
    {
        using var gpu = new Gpu();
        using (var calls = new CallRanks(gpu, 3))
        {
            calls.Draw();
            for (int rank = 0; rank < calls.Count; rank++) calls.Dispatch(rank, calls.On(rank)).Dispose();
            calls.Synchronize();
            Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () => calls.Dispatch(rank, calls.On(rank))))];
            foreach (ExpertBuffer buffer in calls.Buffers) buffer.Deadline = TimeSpan.FromMilliseconds(300);
            var clock = Stopwatch.StartNew();
            for (int rank = 0; rank < 2; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            Assert.InRange(clock.Elapsed, TimeSpan.FromMilliseconds(250), TimeSpan.FromSeconds(3));
            Assert.Equal(2, Assert.Throws<PeerTimeoutException>(calls.Buffers[0].ThrowIfFailed).Peer.Rank);
            for (int rank = 0; rank < 2; rank++) Assert.Equal(2, Assert.Throws<PeerTimeoutException>(() => calls.Dispatch(rank, calls.On(rank))).Peer.Rank);
            clock.Restart();
            for (int rank = 0; rank < 2; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            Assert.InRange(clock.Elapsed, TimeSpan.Zero, TimeSpan.FromMilliseconds(200));
            foreach (Graph graph in graphs) graph.Dispose();
        }
        CallRanks.RequireExchangeOfOthers(gpu);
    }

    [Fact]
    public void A_graph_of_calls_runs_again_and_again_with_other_routes()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3);
        calls.RequireExchangesOfGraphs(runs: 50);
    }

    [Fact]
    public void A_call_inside_of_a_graph_does_not_wait_for_an_event_outside_of_it_alone()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        using CudaEvent outside = CudaEvent.Create(gpu.Context);
        calls.RequireExchange();
        outside.Record(gpu.Stream);
        DeviceOptions beside = calls.On(0) with { Overlap = true, WaitEvent = outside.Handle };
        InvalidOperationException? error = null;
        Graph.Capture(calls.Streams[0], () => error = Assert.Throws<InvalidOperationException>(() => calls.Dispatch(0, beside))).Dispose();
        Assert.Contains("DeviceOptions.WaitEvent", error!.Message, StringComparison.Ordinal);
        calls.RequireExchange();
    }

    [Fact]
    public void A_buffer_that_a_refused_call_took_into_a_graph_is_as_before_when_the_capture_has_ended()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        using CudaEvent inside = CudaEvent.Create(gpu.Context);
        calls.RequireExchange();
        calls.Draw();
        using Dispatched before = calls.Dispatch(0, calls.On(0));
        Graph.Capture(gpu.Stream, () =>
        {
            inside.Record(gpu.Stream);
            Assert.Throws<InvalidOperationException>(() => calls.Dispatch(0, calls.On(0) with { Overlap = true, WaitEvent = inside.Handle }));
            Assert.Throws<InvalidOperationException>(() => _ = before.ResultRows);
            Assert.False(calls.Streams[0].IsCapturing);
            Assert.Throws<InvalidOperationException>(() => calls.Dispatch(0, default));
        }).Dispose();
        Assert.True(before.ResultRows.Rows > 0);
        calls.RequireExchange();
        using Dispatched received = calls.Dispatch(0, default);
        Assert.True(received.ResultRows.Rows > 0);
    }

    [Fact]
    public void A_buffer_that_is_disposed_while_its_stream_is_in_a_graph_tells_the_others()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using CudaEvent inside = CudaEvent.Create(gpu.Context);
        calls.RequireExchange();
        Graph.Capture(gpu.Stream, () =>
        {
            inside.Record(gpu.Stream);
            Assert.Throws<InvalidOperationException>(() => calls.Dispatch(0, calls.On(0) with { Overlap = true, WaitEvent = inside.Handle }));
            calls.Buffers[0].Dispose();
        }).Dispose();
        var clock = Stopwatch.StartNew();
        calls.Dispatch(1, calls.On(1)).Dispose();
        calls.Streams[1].Synchronize();
        Assert.Contains("disposed its buffer", Assert.Throws<PeerLostException>(calls.Buffers[1].ThrowIfFailed).Message, StringComparison.Ordinal);
        Assert.InRange(clock.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(5));
    }

    [Fact]
    public void A_call_that_waits_for_counts_cannot_be_captured()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        InvalidOperationException? error = null;
        using Graph graph = Graph.Capture(calls.Streams[0], () => error = Assert.Throws<InvalidOperationException>(() => calls.Dispatch(0, calls.On(0), isFixed: false)));
        Assert.Contains("DispatchOptions.FixedShape", error!.Message, StringComparison.Ordinal);
        using Dispatched after = calls.Dispatch(0, calls.On(0), isFixed: false);
        Assert.Equal(calls.RowsOfTheFirst, after.RowCount);
    }

    /// <summary>What a graph can hold beside plain calls.</summary>
    public enum Captured
    {
        BesideTheStream,
        ExpertMajor,
        PreReduced,
        ByHandle,
        ResultsElsewhere,
        ZeroPadding,
        Weights,
        ChoiceWeights,
        Biases,
        Quantized,
        QuantizedByHandle,
        Scaled,
    }

    [Theory]
    [InlineData(Captured.BesideTheStream)]
    [InlineData(Captured.ExpertMajor)]
    [InlineData(Captured.PreReduced)]
    [InlineData(Captured.ByHandle)]
    [InlineData(Captured.ResultsElsewhere)]
    [InlineData(Captured.ZeroPadding)]
    [InlineData(Captured.Weights)]
    [InlineData(Captured.ChoiceWeights)]
    [InlineData(Captured.Biases)]
    [InlineData(Captured.Quantized)]
    [InlineData(Captured.QuantizedByHandle)]
    [InlineData(Captured.Scaled)]
    public void Every_call_that_does_not_wait_can_be_captured_and_brings_what_it_brings_outside(Captured kind)
    {
        using var gpu = new Gpu();
        using var steps = new CapturedSteps(gpu, kind);
        CallRanks calls = steps.Calls;
        // Once before: what a first call takes is not taken while a stream is captured.
        calls.Draw();
        for (int rank = 0; rank < calls.Count; rank++) steps.Enqueue(rank);
        steps.Forget();
        Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () => steps.Enqueue(rank)))];
        CapturedSteps.Step[] captured = steps.Take();
        for (int run = 0; run < 20; run++)
        {
            calls.Draw();
            steps.Poison();
            for (int rank = 0; rank < calls.Count; rank++) steps.Enqueue(rank);
            byte[][] outside = steps.Observe();
            steps.Forget();
            steps.Poison();
            for (int rank = 0; rank < calls.Count; rank++) graphs[rank].Launch(calls.Streams[rank]);
            byte[][] inside = steps.Observe(captured);
            for (int rank = 0; rank < calls.Count; rank++) Assert.Equal(outside[rank], inside[rank]);
            if (steps.AddsRowsAsTheyCame) calls.RequireSums(steps.Layout);
        }
        foreach (Graph graph in graphs) graph.Dispose();
        CapturedSteps.Forget(captured);
        calls.RequireExchange();
    }

    [Fact]
    public void Captures_that_fail_or_are_thrown_away_leave_the_ranks_in_step()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 3, budget: 1 << 16);
        calls.RequireExchange();
        int room = calls.RoomFor();
        void Enqueue(int rank, List<Dispatched> received)
        {
            received.Add(calls.Dispatch(rank, calls.On(rank)));
            calls.Combine(rank, received[^1], calls.On(rank));
        }
        var received = new List<Dispatched>();
        for (int times = 0; times < 3; times++) Graph.Capture(calls.Streams[0], () => Enqueue(0, received)).Dispose();

        // What may not be done ends the capture; calls that come afterwards cannot be made, and take nothing.
        CudaException error = Assert.Throws<CudaException>(() => Graph.Capture(calls.Streams[1], () =>
        {
            Enqueue(1, received);
            Assert.Throws<CudaException>(calls.Streams[1].Synchronize);
            // Results from elsewhere, which are copied first.
            for (int times = 0; times < 4; times++)
                Assert.Throws<CudaException>(() => calls.Combine(1, calls.Rows(1, received[^1].RowCount), received[^1].Handle, calls.On(1)));
            Enqueue(1, received);
        }));
        Assert.Equal(Recovery.CallAgain, error.Recovery);
        foreach (Dispatched each in received) each.Dispose();
        calls.RequireExchange();
        received.Clear();
        Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () => Enqueue(rank, received)))];
        for (int run = 0; run < 5; run++)
        {
            calls.Draw();
            for (int rank = 0; rank < calls.Count; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            calls.RequireSums();
            calls.RequireExchange();
        }
        foreach (Graph graph in graphs) graph.Dispose();
        foreach (Dispatched each in received) each.Dispose();
        Assert.Equal(room, calls.RoomFor());
    }

    [Fact]
    public void What_graphs_copy_to_is_theirs_until_their_plan_is_gone()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, budget: 1 << 16);
        const int ResultBytes = 2 * CallRanks.Tokens * CallRanks.Hidden * sizeof(float);
        CudaBytes[] elsewhere = [.. calls.Streams.Select(_ => gpu.Allocate(ResultBytes))];
        Dispatched Enqueue(int rank)
        {
            Dispatched received = calls.Dispatch(rank, calls.On(rank));
            calls.Streams[rank].Copy(elsewhere[rank].Address, received.Rows.Address, ResultBytes);
            calls.Combine(rank, ReadOnlyTensorView.FromPointer(elsewhere[rank].Address, received.RowCount, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0), received.Handle, calls.On(rank));
            return received;
        }
        calls.Draw();
        for (int rank = 0; rank < calls.Count; rank++) Enqueue(rank).Dispose();
        calls.Synchronize();
        int room = calls.RoomFor();
        var captured = new Dispatched[calls.Count];
        Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () => captured[rank] = Enqueue(rank)))];

        // Others hold all that is left, to the last piece that is as large as what the graphs copy.
        Dispatched[] held = [.. Enumerable.Range(0, calls.RoomFor()).SelectMany(_ => Enumerable.Range(0, calls.Count).Select(rank => calls.Dispatch(rank, calls.On(rank))).ToArray())];
        List<nint> theirs = [.. held.Select(each => each.Rows.Address)];
        for (int rank = 0; rank < calls.Count; rank++)
        {
            void TakeAll()
            {
                for (int i = rank; ; i += calls.Count) theirs.Add(held[i].ResultRows.Address);
            }
            Assert.Throws<CapacityException>(TakeAll);
        }
        calls.Synchronize();
        foreach (nint each in theirs) gpu.Stream.Fill(each, 0x5A, ResultBytes);
        gpu.Stream.Synchronize();
        for (int run = 0; run < 3; run++)
        {
            calls.Draw();
            for (int rank = 0; rank < calls.Count; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            calls.RequireSums();
        }
        foreach (nint each in theirs) Assert.Equal(-1, calls.Read<byte>(0, each, ResultBytes).AsSpan().IndexOfAnyExcept((byte)0x5A));
        foreach (Dispatched each in held) each.Dispose();
        foreach (Graph graph in graphs) graph.Dispose();
        foreach (Dispatched each in captured) each.Dispose();
        Assert.Equal(room, calls.RoomFor());
        foreach (CudaBytes each in elsewhere) each.Dispose();
    }

    [Fact]
    public void A_call_without_room_cannot_be_captured()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 1, budget: 1 << 15);
        calls.RequireExchange();
        Dispatched[] held = [.. Enumerable.Range(0, calls.RoomFor()).Select(_ => calls.Dispatch(0, calls.On(0)))];
        CapacityException? error = null;
        Graph.Capture(calls.Streams[0], () => error = Assert.Throws<CapacityException>(() => calls.Dispatch(0, calls.On(0)))).Dispose();
        Assert.Equal("bytes", error!.Unit);
        foreach (Dispatched each in held) each.Dispose();
        calls.RequireExchange();
        Dispatched received = default;
        using Graph graph = Graph.Capture(calls.Streams[0], () =>
        {
            received = calls.Dispatch(0, calls.On(0));
            calls.Combine(0, received, calls.On(0));
        });
        calls.Draw();
        graph.Launch(calls.Streams[0]);
        calls.Synchronize();
        calls.RequireSums();
        received.Dispose();
    }

    [Fact]
    public void A_graph_whose_rows_do_not_fit_brings_nothing_and_runs_on_when_they_do()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2, capacity: CallRanks.Tokens);
        calls.ChooseNothing();
        calls.Enqueue();
        calls.Synchronize();
        var received = new Dispatched[calls.Count];
        Graph[] graphs = [.. Enumerable.Range(0, calls.Count).Select(rank => Graph.Capture(calls.Streams[rank], () =>
        {
            received[rank] = calls.Dispatch(rank, calls.On(rank));
            calls.Combine(rank, received[rank], calls.On(rank));
        }))];
        int[] everything = [.. Enumerable.Range(0, CallRanks.Tokens).SelectMany(_ => new[] { 0, 4, -1 })];
        for (int run = 0; run < 4; run++)
        {
            calls.Draw();
            bool fits = run % 2 == 1;
            // The first rank's choices are all within what each rank may receive; the second's come on top.
            calls.Write<int>(0, calls.Indices[0], everything);
            calls.ChoicesOnHost[0] = everything;
            if (fits) calls.ChoicesOnHost[1] = Enumerable.Repeat(-1, CallRanks.Tokens * CallRanks.TopK).ToArray();
            calls.Write<int>(1, calls.Indices[1], calls.ChoicesOnHost[1]);
            for (int rank = 0; rank < calls.Count; rank++) graphs[rank].Launch(calls.Streams[rank]);
            calls.Synchronize();
            if (fits) calls.RequireSums();
            else Assert.Equal(0, calls.Read<int>(0, received[0].Counts.Address, 1)[0]);
        }

        // The host is told what happened last, once.
        foreach (ExpertBuffer buffer in calls.Buffers)
        {
            CapacityException last = Assert.Throws<CapacityException>(buffer.ThrowIfFailed);
            Assert.Equal(("rows", -1), (last.Unit, last.CallsBehind));
            buffer.ThrowIfFailed();
        }
        calls.ChooseNothing();
        foreach (Dispatched each in calls.Enqueue()) each.Dispose();
        calls.Synchronize();
        foreach (Dispatched each in calls.Enqueue()) each.Dispose();
        foreach (Graph graph in graphs) graph.Dispose();
    }
}

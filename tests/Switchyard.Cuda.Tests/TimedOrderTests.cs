using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Tests;

/// <summary>What happens while something else still runs: not under compute-sanitizer, which lets launches wait for that.</summary>
public sealed class TimedOrderTests
{
    [Fact]
    public void A_call_waits_for_its_event_and_not_for_what_the_stream_holds()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using CudaEvent ready = CudaEvent.Create(gpu.Context);
        CudaEvent[] done = [.. calls.Streams.Select(_ => CudaEvent.Create(gpu.Context))];
        using var slow = new SlowCopies(gpu);
        using CudaBytes rows = gpu.Allocate(calls.Count * CallRanks.Tokens * CallRanks.Hidden * sizeof(float));
        calls.RequireExchange();
        calls.Draw();
        for (int rank = 0; rank < calls.Count; rank++)
        {
            rows.Write<float>(calls.XOnHost[rank], (long)rank * calls.XOnHost[rank].Length * sizeof(float));
            gpu.Stream.Fill(calls.X[rank], 0xA5, calls.XOnHost[rank].Length * sizeof(float));
        }
        gpu.Stream.Synchronize();

        // The rows come late, before the event; the ranks' own streams are busy far longer.
        slow.Enqueue(gpu.Stream, 2);
        for (int rank = 0; rank < calls.Count; rank++)
            gpu.Stream.Copy(calls.X[rank], rows.Address + (rank * calls.XOnHost[rank].Length * sizeof(float)), calls.XOnHost[rank].Length * sizeof(float));
        ready.Record(gpu.Stream);
        foreach (CudaStream stream in calls.Streams) slow.Enqueue(stream, 100);
        var received = new Dispatched[calls.Count];
        for (int rank = 0; rank < calls.Count; rank++)
        {
            DeviceOptions beside = calls.On(rank) with { Overlap = true, WaitEvent = ready.Handle, SignalEvent = done[rank].Handle };
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
        using CudaEvent done = CudaEvent.Create(gpu.Context);
        using var slow = new SlowCopies(gpu);
        const int ResultBytes = CallRanks.Tokens * CallRanks.Hidden * sizeof(float);
        CudaStream stream = calls.Streams[0];
        calls.Draw();
        Dispatched first = calls.Dispatch(0, calls.On(0));
        nint place = first.ResultRows.Address;
        stream.Copy(place, first.Rows.Address, ResultBytes);
        stream.Synchronize();

        // The combine and what follows it on the buffer's stream come late; the caller's own stream has nothing to wait for.
        DeviceOptions beside = calls.On(0) with { Overlap = true, WaitEvent = slow.DoneAfter(copies: 40).Handle, SignalEvent = done.Handle };
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
}

using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>While one thread captures for all, as PyTorch does: whatever another thread does that is not allowed meanwhile ends the capture.</summary>
public sealed class CaptureForAllTests
{
    [Fact]
    public void Buffers_are_given_up_while_a_stream_is_captured_for_all_threads()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using var slow = new SlowCopies(gpu);
        using CudaStream captured = CudaStream.Create(gpu.Context);
        calls.Draw();
        CudaEvent late = slow.DoneAfter(copies: 20);
        for (int rank = 0; rank < calls.Count; rank++) calls.Dispatch(rank, calls.On(rank) with { Overlap = true, WaitEvent = late.Handle });

        // What they hold is given back when their calls are done, by a thread that looks for that meanwhile.
        foreach (ExpertBuffer buffer in calls.Buffers) buffer.Dispose();
        using Graph graph = Graph.Capture(captured, () => Thread.Sleep(200), CUstreamCaptureMode.GLOBAL);
        gpu.Context.Synchronize();
    }

    [Fact]
    public void A_call_that_waits_works_while_another_thread_captures_for_all()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using var slow = new SlowCopies(gpu);
        using CudaStream captured = CudaStream.Create(gpu.Context);
        calls.RequireExchange();
        calls.Draw();
        using var begun = new ManualResetEventSlim();
        CudaEvent late = slow.DoneAfter(copies: 10);
        Task<Dispatched[]> waiting = Task.Run(() =>
        {
            begun.Wait(TestContext.Current.CancellationToken);
            return calls.InThreads(rank =>
            {
                Dispatched received = calls.Dispatch(rank, new() { WaitEvent = late.Handle }, isFixed: false);
                calls.Combine(rank, received, default);
                return received;
            });
        });
        using Graph graph = Graph.Capture(captured, () =>
        {
            begun.Set();
            foreach (Dispatched each in waiting.GetAwaiter().GetResult()) each.Dispose();
        }, CUstreamCaptureMode.GLOBAL);
        calls.RequireSums();
    }

    [Fact]
    public void More_results_than_before_are_held_while_another_thread_captures_for_all()
    {
        using var gpu = new Gpu();
        using var calls = new CallRanks(gpu, 2);
        using CudaStream captured = CudaStream.Create(gpu.Context);
        calls.RequireExchange();
        calls.Draw();
        using Graph graph = Graph.Capture(captured, () =>
        {
            // Of the plans behind results eight are there; then more memory of the device is taken.
            Dispatched[][] held = calls.InThreads(rank => Enumerable.Range(0, 20).Select(_ => calls.Dispatch(rank, default)).ToArray());
            foreach (Dispatched each in held.SelectMany(results => results)) each.Dispose();
        }, CUstreamCaptureMode.GLOBAL);
        calls.RequireExchange();
    }
}

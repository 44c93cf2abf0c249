using System.Runtime.InteropServices;
using TorchSharp;
using Tensor = TorchSharp.torch.Tensor;

namespace Switchyard.Cuda.Tests;

/// <summary>
/// Beside TorchSharp, which uses the devices' primary contexts too: its tensors are exchanged where they lie. Needs a libtorch for CUDA that the
/// loader finds, as <c>run --beside-torchsharp</c> sees to.
/// </summary>
public sealed partial class TorchSharpTests
{
    private const int Steps = 20;

    [Fact]
    public async Task Calls_go_between_what_TorchSharp_does_on_its_stream()
    {
        using var gpu = new Gpu();
        SkipUnlessTorchReachesCuda();
        using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        using ExpertBuffer buffer = await ExpertBuffer.CreateAsync(group, CallRanks.OptionsFor(1), TestContext.Current.CancellationToken);
        var onItsStream = new DeviceOptions { Stream = 0 };
        for (int step = 0; step < Steps; step++)
        {
            using DisposeScope tensors = torch.NewDisposeScope();
            var rank = new Exchange();
            using Dispatched received = buffer.Dispatch(rank.Rows, rank.Choices, default, new() { FixedShape = true, Device = onItsStream });
            buffer.Combine(received.Rows, received.Handle, rank.Sums, new() { Device = onItsStream });
            Assert.True(AreEqual(rank.X, rank.Output), $"step {step}: one row of each token is not its sum");
        }
    }

    [Fact]
    public async Task Ranks_exchange_tensors_while_TorchSharp_multiplies()
    {
        using var gpu = new Gpu();
        SkipUnlessTorchReachesCuda();
        using var calls = new CallRanks(gpu, 4);
        using var over = new CancellationTokenSource();
        using var begun = new ManualResetEventSlim();
        Task<long> products = Task.Run(() => MultiplyUntil(begun, over.Token));
        try
        {
            begun.Wait(TestContext.Current.CancellationToken); // to load what multiplies may wait for kernels that run
            for (int step = 0; step < Steps; step++) ExchangeTensors(calls, step);
        }
        finally
        {
            await over.CancelAsync();
            await products;
        }
        Assert.Equal(0, await products);
    }

    private static void ExchangeTensors(CallRanks calls, int step)
    {
        using DisposeScope tensors = torch.NewDisposeScope();
        Exchange[] ranks = [.. Enumerable.Range(0, calls.Count).Select(_ => new Exchange())];
        torch.cuda.synchronize(); // before kernels that wait for each other are there: it would wait for them
        calls.InThreads(rank =>
        {
            using Dispatched received = calls.Buffers[rank].Dispatch(ranks[rank].Rows, ranks[rank].Choices, default, default);
            calls.Buffers[rank].Combine(received.Rows, received.Handle, ranks[rank].Sums);
            return true;
        });
        for (int rank = 0; rank < calls.Count; rank++)
            Assert.True(AreEqual(ranks[rank].SumsOfRows(calls.Count), ranks[rank].Output), $"step {step}, rank {rank}: other sums than of its tokens' rows");
    }

    private static bool AreEqual(Tensor expected, Tensor seen) => expected.eq(seen).all().item<bool>();

    private static void SkipUnlessTorchReachesCuda()
    {
        string? reason = null;
        try
        {
            if (!torch.TryInitializeDeviceType(DeviceType.CUDA)) reason = "TorchSharp finds no libtorch that reaches a GPU";
        }
        catch (Exception missing) when (missing is NotSupportedException or TypeInitializationException)
        {
            reason = "TorchSharp finds no libtorch for CUDA (in LD_LIBRARY_PATH)";
        }
        Assert.SkipUnless(reason is null, reason ?? "");
    }

    /// <summary>Elements of products that were not those of the first.</summary>
    private static long MultiplyUntil(ManualResetEventSlim begun, CancellationToken over)
    {
        try
        {
            using DisposeScope kept = torch.NewDisposeScope();
            Tensor factor = torch.randn(1024, 1024, device: torch.CUDA), first = factor.matmul(factor);
            long wrong = 0;
            while (!over.IsCancellationRequested)
            {
                using DisposeScope tensors = torch.NewDisposeScope();
                wrong += factor.matmul(factor).ne(first).sum().item<long>();
                begun.Set();
            }
            return wrong;
        }
        finally
        {
            begun.Set();
        }
    }

    /// <summary>A rank's tensors: new rows and choices, and where their sums go.</summary>
    private sealed partial class Exchange
    {
        public Tensor X { get; } = torch.randn(CallRanks.Tokens, CallRanks.Hidden, device: torch.CUDA);

        public Tensor Indices { get; } =
            torch.rand(CallRanks.Tokens, CallRanks.Experts, device: torch.CUDA).argsort(1).narrow(1, 0, CallRanks.TopK).to(torch.int32).contiguous();

        public Tensor Output { get; } = torch.full(CallRanks.Tokens, CallRanks.Hidden, float.NaN, device: torch.CUDA);

        public ReadOnlyTensorView Rows => ReadOnlyTensorView.FromPointer(AddressOf(X), CallRanks.Tokens, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0);

        public ReadOnlyTensorView Choices => ReadOnlyTensorView.FromPointer(AddressOf(Indices), CallRanks.Tokens, CallRanks.TopK, CallRanks.TopK, ElementType.Int32, 0);

        public TensorView Sums => TensorView.FromPointer(AddressOf(Output), CallRanks.Tokens, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0);

        /// <summary>Each token's row, once for each rank that has one of its experts. Three times a number is rounded once, as are two additions.</summary>
        public Tensor SumsOfRows(int ranks)
        {
            Tensor isThere = torch.nn.functional.one_hot(Indices.to(torch.int64).floor_divide(CallRanks.Experts / ranks), ranks).amax([1L]);
            return X * isThere.sum(1, keepdim: true);
        }

        private static nint AddressOf(Tensor tensor) => THSTensor_data(tensor.Handle);

        /// <summary>Of TorchSharp's native library. (Its own <c>storage</c> tells where a tensor's storage begins, of elements that it converts another one's.)</summary>
        [LibraryImport("LibTorchSharp")]
        private static partial nint THSTensor_data(nint tensor);
    }
}

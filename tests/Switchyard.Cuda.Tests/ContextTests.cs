using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>Beside another user of the primary context, such as PyTorch: nothing of theirs is changed, reset or destroyed.</summary>
public sealed unsafe partial class ContextTests
{
    [Fact]
    public void The_context_is_the_one_that_others_use()
    {
        using var gpu = new Gpu();
        nint theirs;
        CudaDriver.Check(LibCuda.cuDevicePrimaryCtxRetain(&theirs, gpu.Device.Number), "retain");
        CudaDriver.Check(LibCuda.cuDevicePrimaryCtxRelease(gpu.Device.Number), "release");
        Assert.Equal(theirs, gpu.Context.Handle);
    }

    [Fact]
    public void Others_go_on_when_we_are_gone()
    {
        Gpu.SkipUnlessPresent();
        CudaDevice device = CudaDevice.Get(0);
        nint theirs;
        CudaDriver.Check(LibCuda.cuDevicePrimaryCtxRetain(&theirs, device.Number), "retain");
        try
        {
            CudaDriver.Check(LibCuda.cuCtxPushCurrent(theirs), "push");
            nint stream;
            CudaDriver.Check(LibCuda.cuStreamCreate(&stream, 0), "create");
            using (var gpu = new Gpu())
            using (CudaBytes bytes = gpu.Allocate(1 << 20))
            {
                bytes.Clear();
            }
            nint current;
            CudaDriver.Check(LibCuda.cuCtxGetCurrent(&current), "current");
            Assert.Equal(theirs, current);
            CudaDriver.Check(LibCuda.cuStreamSynchronize(stream), "synchronize");
            CudaDriver.Check(LibCuda.cuStreamDestroy(stream), "destroy");
            CudaDriver.Check(LibCuda.cuCtxPopCurrent(&current), "pop");
        }
        finally
        {
            CudaDriver.Check(LibCuda.cuDevicePrimaryCtxRelease(device.Number), "release");
        }
    }

    [Fact]
    public void A_scope_restores_what_was_current_and_nests()
    {
        using var gpu = new Gpu();
        RunOnFreshThread(() =>
        {
            nint theirs, popped;
            CudaDriver.Check(cuCtxCreate(&theirs, 0, gpu.Device.Number), "create");
            using (CudaContext.Scope outer = gpu.Context.Enter())
            {
                using (CudaContext.Scope inner = gpu.Context.Enter()) Assert.Equal(gpu.Context.Handle, Current());
                Assert.Equal(gpu.Context.Handle, Current());
            }
            Assert.Equal(theirs, Current());
            CudaDriver.Check(LibCuda.cuCtxPopCurrent(&popped), "pop");
            CudaDriver.Check(cuCtxDestroy(theirs), "destroy");
        });
    }

    [Fact]
    public void A_thread_that_had_no_context_keeps_ours()
    {
        using var gpu = new Gpu();
        RunOnFreshThread(() =>
        {
            Assert.Equal(0, Current());
            using (CudaContext.Scope scope = gpu.Context.Enter()) Assert.Equal(gpu.Context.Handle, Current());
            Assert.Equal(gpu.Context.Handle, Current());
        });
    }

    [Fact]
    public void What_is_disposed_says_so_and_is_given_back_once()
    {
        using var gpu = new Gpu();
        CudaContext extra = CudaContext.Retain(gpu.Device);
        extra.Dispose();
        extra.Dispose();
        Assert.Throws<ObjectDisposedException>(() => extra.Handle);
        gpu.Context.Synchronize();
    }

    private static nint Current()
    {
        nint current;
        CudaDriver.Check(LibCuda.cuCtxGetCurrent(&current), "current");
        return current;
    }

    private static void RunOnFreshThread(Action action)
    {
        Exception? failure = null;
        var thread = new Thread(() => failure = Record.Exception(action));
        thread.Start();
        thread.Join();
        Assert.Null(failure);
    }

    [System.Runtime.InteropServices.LibraryImport(LibCuda.Library, EntryPoint = "cuCtxCreate_v2")]
    private static partial CUresult cuCtxCreate(nint* context, uint flags, int device);

    [System.Runtime.InteropServices.LibraryImport(LibCuda.Library, EntryPoint = "cuCtxDestroy_v2")]
    private static partial CUresult cuCtxDestroy(nint context);
}

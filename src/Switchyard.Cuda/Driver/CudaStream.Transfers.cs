using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

internal sealed unsafe partial class CudaStream
{
    /// <summary>
    /// Enqueues a copy between any addresses of devices and of pinned host memory. Memory of the host that is not pinned is taken too, but
    /// then the call may wait for the copy.
    /// </summary>
    public void Copy(nint target, nint source, long bytes)
    {
        using CudaContext.Scope scope = Context.Enter();
        CUresult result = LibCuda.cuMemcpyAsync((ulong)target, (ulong)source, (nuint)bytes, Handle);
        if (result != CUresult.CUDA_SUCCESS) throw Failure(result, nameof(LibCuda.cuMemcpyAsync), $"{bytes} bytes from 0x{source:x} to 0x{target:x}");
    }

    /// <summary>Enqueues setting of bytes.</summary>
    public void Fill(nint target, byte value, long bytes)
    {
        using CudaContext.Scope scope = Context.Enter();
        CUresult result = LibCuda.cuMemsetD8Async((ulong)target, value, (nuint)bytes, Handle);
        if (result != CUresult.CUDA_SUCCESS) throw Failure(result, nameof(LibCuda.cuMemsetD8Async), $"{bytes} bytes at 0x{target:x}");
    }
}

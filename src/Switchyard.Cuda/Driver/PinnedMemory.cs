using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>Memory of the host that kernels of every device can address too; zeroed. The handle is the host's address.</summary>
internal sealed unsafe class PinnedMemory : DriverObject
{
    private PinnedMemory(nint address, nint deviceAddress, long bytes) : base(address)
    {
        DeviceAddress = deviceAddress;
        Bytes = bytes;
    }

    public long Bytes { get; }

    /// <summary>The address by which kernels reach it.</summary>
    public nint DeviceAddress { get; }

    public static PinnedMemory Allocate(CudaContext context, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        using CudaContext.Scope scope = context.Enter();
        using var relaxed = new RelaxedCapture();
        void* memory;
        Check(
            LibCuda.cuMemHostAlloc(&memory, (nuint)bytes, LibCuda.CU_MEMHOSTALLOC_PORTABLE | LibCuda.CU_MEMHOSTALLOC_DEVICEMAP),
            nameof(LibCuda.cuMemHostAlloc), $"{bytes} bytes");
        ulong deviceAddress;
        CUresult result = LibCuda.cuMemHostGetDevicePointer(&deviceAddress, memory, 0);
        if (result != CUresult.CUDA_SUCCESS)
        {
            _ = LibCuda.cuMemFreeHost(memory);
            throw Failure(result, nameof(LibCuda.cuMemHostGetDevicePointer));
        }
        System.Runtime.InteropServices.NativeMemory.Clear(memory, (nuint)bytes);
        return new PinnedMemory((nint)memory, (nint)deviceAddress, bytes);
    }

    protected override void Release(nint handle) => _ = LibCuda.cuMemFreeHost((void*)handle);
}

using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>A point in a stream's work, to wait for; with times where they were asked for (those without cost less).</summary>
internal sealed unsafe class CudaEvent : DriverObject
{
    private readonly CudaContext _context;

    private CudaEvent(CudaContext context, nint handle) : base(handle) => _context = context;

    /// <summary>Whether the work it recorded is done; also true before anything was recorded.</summary>
    public bool IsDone
    {
        get
        {
            CUresult result = LibCuda.cuEventQuery(Handle);
            if (result == CUresult.CUDA_ERROR_NOT_READY) return false;
            Check(result, nameof(LibCuda.cuEventQuery));
            return true;
        }
    }

    public static CudaEvent Create(CudaContext context, bool timing = false)
    {
        using CudaContext.Scope scope = context.Enter();
        nint cudaEvent;
        uint flags = timing ? LibCuda.CU_EVENT_DEFAULT : LibCuda.CU_EVENT_DISABLE_TIMING;
        Check(LibCuda.cuEventCreate(&cudaEvent, flags), nameof(LibCuda.cuEventCreate));
        return new CudaEvent(context, cudaEvent);
    }

    public void Record(CudaStream stream)
    {
        using CudaContext.Scope scope = _context.Enter();
        Check(LibCuda.cuEventRecord(Handle, stream.Handle), nameof(LibCuda.cuEventRecord));
    }

    public void Synchronize() => Check(LibCuda.cuEventSynchronize(Handle), nameof(LibCuda.cuEventSynchronize));

    /// <summary>Time on the device from <paramref name="start"/> to this one; both are done and were made with timing.</summary>
    public TimeSpan Since(CudaEvent start)
    {
        float milliseconds;
        Check(LibCuda.cuEventElapsedTime(&milliseconds, start.Handle, Handle), nameof(LibCuda.cuEventElapsedTime));
        return TimeSpan.FromMilliseconds(milliseconds);
    }

    protected override void Release(nint handle) => _ = LibCuda.cuEventDestroy(handle);
}

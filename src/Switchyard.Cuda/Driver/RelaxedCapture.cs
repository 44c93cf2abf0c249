using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>
/// While it lives, this thread's calls of the driver do not end a capture that another thread has begun for all: they concern no work that is captured.
/// </summary>
internal readonly unsafe ref struct RelaxedCapture
{
    private readonly CUstreamCaptureMode _before;

    public RelaxedCapture()
    {
        CUstreamCaptureMode mode = CUstreamCaptureMode.RELAXED;
        Check(LibCuda.cuThreadExchangeStreamCaptureMode(&mode), nameof(LibCuda.cuThreadExchangeStreamCaptureMode));
        _before = mode;
    }

    public void Dispose()
    {
        CUstreamCaptureMode mode = _before;
        _ = LibCuda.cuThreadExchangeStreamCaptureMode(&mode);
    }
}

using System.Runtime.InteropServices;

namespace Switchyard.Cuda.Interop;

internal static unsafe partial class LibCuda
{
    public const uint CU_STREAM_NON_BLOCKING = 1;
    public const uint CU_EVENT_DEFAULT = 0;
    public const uint CU_EVENT_DISABLE_TIMING = 2;

    [LibraryImport(Library)]
    public static partial CUresult cuStreamCreate(nint* stream, uint flags);

    [LibraryImport(Library, EntryPoint = "cuStreamDestroy_v2")]
    public static partial CUresult cuStreamDestroy(nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamSynchronize(nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamQuery(nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamWaitEvent(nint stream, nint cudaEvent, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamIsCapturing(nint stream, CUstreamCaptureStatus* status);

    [LibraryImport(Library)]
    public static partial CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode);

    [LibraryImport(Library)]
    public static partial CUresult cuEventCreate(nint* cudaEvent, uint flags);

    [LibraryImport(Library, EntryPoint = "cuEventDestroy_v2")]
    public static partial CUresult cuEventDestroy(nint cudaEvent);

    [LibraryImport(Library)]
    public static partial CUresult cuEventRecord(nint cudaEvent, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuEventQuery(nint cudaEvent);

    [LibraryImport(Library)]
    public static partial CUresult cuEventSynchronize(nint cudaEvent);

    [LibraryImport(Library)]
    public static partial CUresult cuEventElapsedTime(float* milliseconds, nint start, nint end);
}

internal enum CUstreamCaptureMode
{
    GLOBAL = 0,
    THREAD_LOCAL = 1,
    RELAXED = 2,
}

internal enum CUstreamCaptureStatus
{
    NONE = 0,
    ACTIVE = 1,
    INVALIDATED = 2,
}

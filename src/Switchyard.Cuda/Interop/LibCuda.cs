using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace Switchyard.Cuda.Interop;

/// <summary>
/// The driver's functions under their own names, one signature in one place. Where a function has versions, the entry point names the one
/// whose signature this is, so a newer driver changes nothing. Nothing above the callers sees a raw result.
/// </summary>
internal static unsafe partial class LibCuda
{
    public const string Library = "libcuda.so.1";

    [LibraryImport(Library)]
    public static partial CUresult cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuDriverGetVersion(int* version);

    [LibraryImport(Library)]
    public static partial CUresult cuGetErrorName(CUresult error, byte** name);

    [LibraryImport(Library)]
    public static partial CUresult cuGetErrorString(CUresult error, byte** text);
}

/// <summary>The results that are looked at; all others are only named.</summary>
internal enum CUresult
{
    CUDA_SUCCESS = 0,
    CUDA_ERROR_NOT_READY = 600,
}

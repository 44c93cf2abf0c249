using System.Runtime.InteropServices;

namespace Switchyard.Cuda.Interop;

internal static unsafe partial class LibCuda
{
    [LibraryImport(Library)]
    public static partial CUresult cuModuleLoadDataEx(nint* module, byte* image, uint count, CUjit_option* options, nint* values);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleUnload(nint module);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleGetFunction(nint* function, nint module, byte* name);

    [LibraryImport(Library)]
    public static partial CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, nint function);

    [LibraryImport(Library)]
    public static partial CUresult cuFuncSetAttribute(nint function, CUfunction_attribute attribute, int value);

    [LibraryImport(Library)]
    public static partial CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, nint function, int threads, nuint sharedBytes);

    [LibraryImport(Library)]
    public static partial CUresult cuLaunchKernelEx(CUlaunchConfig* config, nint function, void** parameters, void** extra);
}

internal enum CUjit_option
{
    ERROR_LOG_BUFFER = 5,
    ERROR_LOG_BUFFER_SIZE_BYTES = 6,
}

internal enum CUfunction_attribute
{
    MAX_THREADS_PER_BLOCK = 0,
    SHARED_SIZE_BYTES = 1,
    LOCAL_SIZE_BYTES = 3,
    NUM_REGS = 4,
    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
}

internal enum CUlaunchAttributeID
{
    PROGRAMMATIC_STREAM_SERIALIZATION = 6,
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct CUlaunchConfig
{
    public uint gridDimX;
    public uint gridDimY;
    public uint gridDimZ;
    public uint blockDimX;
    public uint blockDimY;
    public uint blockDimZ;
    public uint sharedMemBytes;
    public nint hStream;
    public CUlaunchAttribute* attrs;
    public uint numAttrs;
}

/// <summary>The value is a union of 64 bytes, of which only the integer is used.</summary>
[StructLayout(LayoutKind.Explicit, Size = 72)]
internal struct CUlaunchAttribute
{
    [FieldOffset(0)] public CUlaunchAttributeID id;
    [FieldOffset(8)] public int value;
}

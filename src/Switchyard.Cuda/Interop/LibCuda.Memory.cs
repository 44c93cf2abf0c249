using System.Runtime.InteropServices;

namespace Switchyard.Cuda.Interop;

internal static unsafe partial class LibCuda
{
    public const uint CU_MEMHOSTALLOC_PORTABLE = 1;
    public const uint CU_MEMHOSTALLOC_DEVICEMAP = 2;
    public const int CU_MEM_ALLOCATION_TYPE_PINNED = 1;
    public const int CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1;
    public const int CU_MEM_LOCATION_TYPE_DEVICE = 1;
    public const int CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3;
    public const int CU_MEM_ALLOC_GRANULARITY_RECOMMENDED = 1;

    [LibraryImport(Library)]
    public static partial CUresult cuMemGetAllocationGranularity(nuint* bytes, CUmemAllocationProp* properties, int option);

    [LibraryImport(Library)]
    public static partial CUresult cuMemCreate(ulong* handle, nuint bytes, CUmemAllocationProp* properties, ulong flags);

    [LibraryImport(Library)]
    public static partial CUresult cuMemRelease(ulong handle);

    [LibraryImport(Library)]
    public static partial CUresult cuMemExportToShareableHandle(void* shareable, ulong handle, int handleType, ulong flags);

    /// <summary>A descriptor is passed as the pointer itself.</summary>
    [LibraryImport(Library)]
    public static partial CUresult cuMemImportFromShareableHandle(ulong* handle, nint shareable, int handleType);

    [LibraryImport(Library)]
    public static partial CUresult cuMemAddressReserve(ulong* address, nuint bytes, nuint alignment, ulong wanted, ulong flags);

    [LibraryImport(Library)]
    public static partial CUresult cuMemAddressFree(ulong address, nuint bytes);

    [LibraryImport(Library)]
    public static partial CUresult cuMemMap(ulong address, nuint bytes, nuint offset, ulong handle, ulong flags);

    [LibraryImport(Library)]
    public static partial CUresult cuMemUnmap(ulong address, nuint bytes);

    [LibraryImport(Library)]
    public static partial CUresult cuMemRetainAllocationHandle(ulong* handle, void* address);

    [LibraryImport(Library)]
    public static partial CUresult cuMemSetAccess(ulong address, nuint bytes, CUmemAccessDesc* access, nuint count);

    [LibraryImport(Library)]
    public static partial CUresult cuMemHostAlloc(void** memory, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuMemFreeHost(void* memory);

    [LibraryImport(Library, EntryPoint = "cuMemHostGetDevicePointer_v2")]
    public static partial CUresult cuMemHostGetDevicePointer(ulong* address, void* memory, uint flags);

    /// <summary>Between any two addresses that the driver knows, of the host or of devices.</summary>
    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyAsync(ulong target, ulong source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemsetD8Async(ulong target, byte value, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CUresult cuPointerGetAttributes(uint count, CUpointer_attribute* attributes, void** values, ulong address);
}

internal enum CUpointer_attribute
{
    MEMORY_TYPE = 2,
    DEVICE_ORDINAL = 9,
}

internal enum CUmemorytype
{
    NONE = 0,
    HOST = 1,
    DEVICE = 2,
}

[StructLayout(LayoutKind.Sequential)]
internal struct CUmemLocation
{
    public int type;
    public int id;
}

[StructLayout(LayoutKind.Sequential)]
internal struct CUmemAllocationProp
{
    public int type;
    public int requestedHandleTypes;
    public CUmemLocation location;
    public nint win32HandleMetaData;
    public byte compressionType;
    public byte gpuDirectRDMACapable;
    public ushort usage;
    public uint reserved;
}

[StructLayout(LayoutKind.Sequential)]
internal struct CUmemAccessDesc
{
    public CUmemLocation location;
    public int flags;
}

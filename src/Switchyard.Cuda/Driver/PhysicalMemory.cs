using Microsoft.Win32.SafeHandles;
using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>
/// Memory of a device, without an address until it is mapped; it lives until it and all its mappings, in all processes, are gone. Can be
/// handed to other processes as a descriptor.
/// </summary>
internal sealed unsafe class PhysicalMemory : DriverObject
{
    private PhysicalMemory(nint handle, CudaDevice device, long bytes) : base(handle)
    {
        Device = device;
        Bytes = bytes;
    }

    public CudaDevice Device { get; }

    /// <summary>A multiple of the device's granularity.</summary>
    public long Bytes { get; }

    /// <summary>Allocates at least so many bytes on <paramref name="device"/>.</summary>
    public static PhysicalMemory Create(CudaDevice device, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        if (!device.ManagesVirtualMemory || !device.SharesMemoryByDescriptor)
        {
            throw new CudaUnavailableException(
                $"Device {device.Ordinal} ({device.Name}) cannot share memory: virtual memory management is {Readable(device.ManagesVirtualMemory)}, handles as file descriptors are {Readable(device.SharesMemoryByDescriptor)}.");
        }
        long size = RoundUp(device, bytes);
        CUmemAllocationProp properties = Properties(device);
        ulong handle;
        Check(LibCuda.cuMemCreate(&handle, (nuint)size, &properties, 0), nameof(LibCuda.cuMemCreate), $"{size} bytes on device {device.Ordinal}");
        return new PhysicalMemory((nint)handle, device, size);
    }

    /// <summary>Takes memory that another process exported. The descriptor stays the caller's, and may be closed afterwards.</summary>
    /// <param name="descriptor">What <see cref="Export"/> returned there.</param>
    /// <param name="device">The device it lies on, as this process numbers it.</param>
    /// <param name="bytes"><see cref="Bytes"/> there.</param>
    public static PhysicalMemory Import(SafeFileHandle descriptor, CudaDevice device, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        bool held = false;
        try
        {
            descriptor.DangerousAddRef(ref held);
            ulong handle;
            Check(
                LibCuda.cuMemImportFromShareableHandle(&handle, descriptor.DangerousGetHandle(), LibCuda.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                nameof(LibCuda.cuMemImportFromShareableHandle), $"{bytes} bytes of device {device.Ordinal}");
            return new PhysicalMemory((nint)handle, device, bytes);
        }
        finally
        {
            if (held) descriptor.DangerousRelease();
        }
    }

    /// <summary>A handle of its own to the memory of <paramref name="other"/>.</summary>
    internal static PhysicalMemory Held(nint handle, PhysicalMemory other) => new(handle, other.Device, other.Bytes);

    /// <summary>A descriptor of this memory, for another process.</summary>
    public SafeFileHandle Export()
    {
        int descriptor;
        Check(
            LibCuda.cuMemExportToShareableHandle(&descriptor, (ulong)Handle, LibCuda.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
            nameof(LibCuda.cuMemExportToShareableHandle));
        return new SafeFileHandle(descriptor, ownsHandle: true);
    }

    protected override void Release(nint handle) => _ = LibCuda.cuMemRelease((ulong)handle);

    private static CUmemAllocationProp Properties(CudaDevice device) => new()
    {
        type = LibCuda.CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes = LibCuda.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        location = new CUmemLocation { type = LibCuda.CU_MEM_LOCATION_TYPE_DEVICE, id = device.Number },
    };

    /// <summary>The bytes that memory of at least so many takes.</summary>
    internal static long RoundUp(CudaDevice device, long bytes)
    {
        CUmemAllocationProp properties = Properties(device);
        nuint granularity;
        Check(
            LibCuda.cuMemGetAllocationGranularity(&granularity, &properties, LibCuda.CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
            nameof(LibCuda.cuMemGetAllocationGranularity));
        return checked((bytes + (long)granularity - 1) / (long)granularity * (long)granularity);
    }

    private static string Readable(bool has) => has ? "there" : "missing";
}

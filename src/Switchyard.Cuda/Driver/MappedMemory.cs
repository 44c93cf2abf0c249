using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>
/// An address range of this process with a <see cref="PhysicalMemory"/> behind it, the whole of it; the handle is the address. The same
/// memory can be mapped several times, here and in other processes. Dispose it only when no kernel can touch it any more.
/// </summary>
internal sealed unsafe class MappedMemory : DriverObject
{
    private MappedMemory(nint address, long bytes) : base(address) => Bytes = bytes;

    public long Bytes { get; }

    /// <summary>Maps <paramref name="memory"/> for kernels of <paramref name="devices"/>, all of which can access its device.</summary>
    public static MappedMemory Map(PhysicalMemory memory, params ReadOnlySpan<CudaDevice> devices)
    {
        foreach (CudaDevice device in devices)
        {
            if (!device.CanAccess(memory.Device))
                throw new CudaUnavailableException($"Device {device.Ordinal} ({device.Name}) cannot access memory of device {memory.Device.Ordinal} ({memory.Device.Name}): they have no direct link.");
        }
        ulong address;
        Check(LibCuda.cuMemAddressReserve(&address, (nuint)memory.Bytes, 0, 0, 0), nameof(LibCuda.cuMemAddressReserve), $"{memory.Bytes} bytes");
        CUresult result = LibCuda.cuMemMap(address, (nuint)memory.Bytes, 0, (ulong)memory.Handle, 0);
        if (result != CUresult.CUDA_SUCCESS)
        {
            _ = LibCuda.cuMemAddressFree(address, (nuint)memory.Bytes);
            throw Failure(result, nameof(LibCuda.cuMemMap), $"{memory.Bytes} bytes");
        }
        var mapped = new MappedMemory((nint)address, memory.Bytes);
        try
        {
            mapped.Allow(devices);
        }
        catch
        {
            mapped.Dispose();
            throw;
        }
        return mapped;
    }

    /// <summary>As <see cref="Map"/>; where that fails, the memory is given back.</summary>
    public static MappedMemory MapOrRelease(PhysicalMemory memory, params ReadOnlySpan<CudaDevice> devices)
    {
        try
        {
            return Map(memory, devices);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>Another hold of the memory behind it, which is <paramref name="memory"/>.</summary>
    public PhysicalMemory Memory(PhysicalMemory memory)
    {
        ulong handle;
        Check(LibCuda.cuMemRetainAllocationHandle(&handle, (void*)Handle), nameof(LibCuda.cuMemRetainAllocationHandle));
        return PhysicalMemory.Held((nint)handle, memory);
    }

    protected override void Release(nint handle)
    {
        _ = LibCuda.cuMemUnmap((ulong)handle, (nuint)Bytes);
        _ = LibCuda.cuMemAddressFree((ulong)handle, (nuint)Bytes);
    }

    private void Allow(ReadOnlySpan<CudaDevice> devices)
    {
        CUmemAccessDesc* access = stackalloc CUmemAccessDesc[devices.Length];
        for (int i = 0; i < devices.Length; i++)
        {
            access[i] = new CUmemAccessDesc
            {
                location = new CUmemLocation { type = LibCuda.CU_MEM_LOCATION_TYPE_DEVICE, id = devices[i].Number },
                flags = LibCuda.CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
            };
        }
        Check(LibCuda.cuMemSetAccess((ulong)Handle, (nuint)Bytes, access, (nuint)devices.Length), nameof(LibCuda.cuMemSetAccess), $"for {devices.Length} devices");
    }
}

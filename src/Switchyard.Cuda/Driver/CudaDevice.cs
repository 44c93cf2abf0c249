using System.Runtime.InteropServices;
using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>A device, and what it can do.</summary>
internal sealed unsafe class CudaDevice
{
    private readonly int _device;

    private CudaDevice(int ordinal)
    {
        int device;
        Check(LibCuda.cuDeviceGet(&device, ordinal), nameof(LibCuda.cuDeviceGet), $"of device {ordinal}");
        _device = device;
        Ordinal = ordinal;
    }

    /// <summary>Visible devices.</summary>
    public static int Count
    {
        get
        {
            Require();
            int count;
            Check(LibCuda.cuDeviceGetCount(&count), nameof(LibCuda.cuDeviceGetCount));
            return count;
        }
    }

    public int Ordinal { get; }

    public string Name
    {
        get
        {
            const int Bytes = 256;
            byte* name = stackalloc byte[Bytes];
            Check(LibCuda.cuDeviceGetName(name, Bytes, _device), nameof(LibCuda.cuDeviceGetName));
            return Marshal.PtrToStringUTF8((nint)name)!;
        }
    }

    /// <summary>As nvidia-smi shows it after "GPU-"; the same in every process, whatever is visible there.</summary>
    public Guid Uuid
    {
        get
        {
            byte* uuid = stackalloc byte[16];
            Check(LibCuda.cuDeviceGetUuid(uuid, _device), nameof(LibCuda.cuDeviceGetUuid));
            return new Guid(new ReadOnlySpan<byte>(uuid, 16), bigEndian: true);
        }
    }

    public long MemoryBytes
    {
        get
        {
            nuint bytes;
            Check(LibCuda.cuDeviceTotalMem(&bytes, _device), nameof(LibCuda.cuDeviceTotalMem));
            return (long)bytes;
        }
    }

    public int MultiprocessorCount => Attribute(CUdevice_attribute.MULTIPROCESSOR_COUNT);

    public Version ComputeCapability =>
        new(Attribute(CUdevice_attribute.COMPUTE_CAPABILITY_MAJOR), Attribute(CUdevice_attribute.COMPUTE_CAPABILITY_MINOR));

    /// <summary>Shared memory that one block can have, if its function asks for it.</summary>
    public int MaxSharedBytesPerBlock => Attribute(CUdevice_attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);

    /// <summary>Whether memory can be made, mapped and shared in separate steps.</summary>
    public bool ManagesVirtualMemory => Attribute(CUdevice_attribute.VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) != 0;

    /// <summary>Whether memory can be handed to another process as a descriptor.</summary>
    public bool SharesMemoryByDescriptor => Attribute(CUdevice_attribute.HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED) != 0;

    internal int Number => _device;

    /// <summary>The device with this number among the visible ones.</summary>
    public static CudaDevice Get(int ordinal)
    {
        int count = Count;
        return ordinal >= 0 && ordinal < count ? new CudaDevice(ordinal) : throw new ArgumentOutOfRangeException(
            nameof(ordinal), ordinal, $"There is no device {ordinal}: {count} are visible (CUDA_VISIBLE_DEVICES), counted from 0.");
    }

    /// <summary>Whether kernels of this device can read and write memory of <paramref name="peer"/>. A device reaches itself.</summary>
    public bool CanAccess(CudaDevice peer)
    {
        if (peer.Ordinal == Ordinal) return true;
        int can;
        Check(LibCuda.cuDeviceCanAccessPeer(&can, _device, peer._device), nameof(LibCuda.cuDeviceCanAccessPeer));
        return can != 0;
    }

    private int Attribute(CUdevice_attribute attribute)
    {
        int value;
        Check(LibCuda.cuDeviceGetAttribute(&value, attribute, _device), nameof(LibCuda.cuDeviceGetAttribute), $"for {attribute} of device {Ordinal}");
        return value;
    }
}

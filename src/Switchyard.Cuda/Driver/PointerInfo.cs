using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>Whose memory an address points into.</summary>
internal enum PointerKind
{
    /// <summary>Not known to the driver: ordinary memory of the host, or nothing.</summary>
    Unknown,

    /// <summary>Pinned memory of the host.</summary>
    Host,

    /// <summary>Memory of a device.</summary>
    Device,
}

/// <summary>What the driver knows of an address.</summary>
/// <param name="Kind">Whose memory it points into.</param>
/// <param name="Device">The device it belongs to, by its number among the visible ones; -1 where the driver does not know the address.</param>
internal readonly unsafe record struct PointerInfo(PointerKind Kind, int Device)
{
    public static PointerInfo Of(CudaContext context, nint address)
    {
        using CudaContext.Scope scope = context.Enter();
        CUmemorytype type = CUmemorytype.NONE;
        int device = -1;
        CUpointer_attribute* attributes = stackalloc CUpointer_attribute[] { CUpointer_attribute.MEMORY_TYPE, CUpointer_attribute.DEVICE_ORDINAL };
        void** values = stackalloc void*[] { &type, &device };
        Check(LibCuda.cuPointerGetAttributes(2, attributes, values, (ulong)address), nameof(LibCuda.cuPointerGetAttributes));
        return type switch
        {
            CUmemorytype.DEVICE => new PointerInfo(PointerKind.Device, device),
            CUmemorytype.HOST => new PointerInfo(PointerKind.Host, device),
            _ => new PointerInfo(PointerKind.Unknown, -1),
        };
    }
}

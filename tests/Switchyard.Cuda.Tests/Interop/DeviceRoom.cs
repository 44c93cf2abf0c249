using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;

namespace Switchyard.Cuda.Tests.Interop;

/// <summary>What is free on a device.</summary>
internal static unsafe partial class DeviceRoom
{
    public static long FreeBytes(CudaContext context)
    {
        using CudaContext.Scope scope = context.Enter();
        nuint free, total;
        CudaDriver.Check(cuMemGetInfo(&free, &total), nameof(cuMemGetInfo));
        return (long)free;
    }

    [LibraryImport(LibCuda.Library, EntryPoint = "cuMemGetInfo_v2")]
    private static partial CUresult cuMemGetInfo(nuint* free, nuint* total);
}

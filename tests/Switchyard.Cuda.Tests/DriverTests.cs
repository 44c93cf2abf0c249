using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>The driver: missing, too old, there.</summary>
public sealed class DriverTests
{
    [Fact]
    public void A_missing_driver_is_named_with_the_version_needed()
    {
        CudaUnavailableException error = Assert.Throws<CudaUnavailableException>(() => CudaDriver.Start("libcuda-that-is-not-there.so.1", 12030));
        Assert.Equal(
            "There is no NVIDIA driver here: libcuda-that-is-not-there.so.1 could not be loaded. Install a driver for CUDA 12.3 or newer.",
            error.Message);
    }

    [Fact]
    public void A_driver_that_is_too_old_is_named_with_both_versions()
    {
        Gpu.SkipUnlessPresent();
        CudaUnavailableException error = Assert.Throws<CudaUnavailableException>(() => CudaDriver.Start(LibCuda.Library, 99990));
        Assert.Contains($"serves CUDA {CudaDriver.Version / 1000}.", error.Message, StringComparison.Ordinal);
        Assert.Contains("CUDA 99.99 or newer is needed", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_error_has_the_code_its_name_the_call_and_what_was_asked()
    {
        Gpu.SkipUnlessPresent();
        CudaException error = Assert.Throws<CudaException>(() => CudaDriver.Check((CUresult)2, "cuMemCreate", "7 bytes on device 0"));
        Assert.Equal((2, "CUDA_ERROR_OUT_OF_MEMORY", "cuMemCreate"), (error.Code, error.Name, error.Call));
        Assert.Equal("cuMemCreate returned CUDA_ERROR_OUT_OF_MEMORY (2): out of memory; 7 bytes on device 0.", error.Message);
    }

    [Fact]
    public void A_device_tells_what_it_is()
    {
        Gpu.SkipUnlessPresent();
        CudaDevice device = CudaDevice.Get(0);
        Assert.NotEmpty(device.Name);
        Assert.NotEqual(Guid.Empty, device.Uuid);
        Assert.InRange(device.MultiprocessorCount, 1, 1024);
        Assert.InRange(device.MemoryBytes, 1L << 30, 1L << 42);
        Assert.InRange(device.MaxSharedBytesPerBlock, 96 << 10, 1 << 20);
        Assert.True(device.ManagesVirtualMemory && device.SharesMemoryByDescriptor);
        Assert.True(device.CanAccess(device));
    }

    [Fact]
    public void A_device_that_is_not_there_is_an_argument_error()
    {
        Gpu.SkipUnlessPresent();
        int count = CudaDevice.Count;
        ArgumentOutOfRangeException error = Assert.Throws<ArgumentOutOfRangeException>(() => CudaDevice.Get(count));
        Assert.Contains($"{count} are visible", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => CudaDevice.Get(-1));
    }
}

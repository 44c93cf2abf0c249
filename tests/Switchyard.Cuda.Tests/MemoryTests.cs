using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Tests;

public sealed unsafe class MemoryTests
{
    [Fact]
    public void Memory_is_mapped_twice_and_lives_until_the_last_mapping_is_gone()
    {
        using var gpu = new Gpu();
        PhysicalMemory memory = PhysicalMemory.Create(gpu.Device, 1);
        Assert.True(memory.Bytes >= 1 << 16 && memory.Bytes % (1 << 16) == 0, $"{memory.Bytes} bytes");
        MappedMemory one = MappedMemory.Map(memory, gpu.Device), other = MappedMemory.Map(memory, gpu.Device);
        memory.Dispose();
        Assert.NotEqual(one.Handle, other.Handle);
        gpu.Stream.Fill(one.Handle, 7, one.Bytes);
        gpu.Stream.Synchronize();
        one.Dispose();
        one.Dispose();
        byte last = 0;
        gpu.Stream.Copy((nint)(&last), other.Handle + (nint)other.Bytes - 1, 1);
        gpu.Stream.Synchronize();
        Assert.Equal(7, last);
        other.Dispose();
    }

    [Fact]
    public void An_exported_descriptor_gives_the_same_memory_and_stays_its_owners()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        using SafeFileHandle descriptor = bytes.Memory.Export();
        using PhysicalMemory imported = PhysicalMemory.Import(descriptor, gpu.Device, bytes.Bytes);
        Assert.False(descriptor.IsClosed);
        using MappedMemory mapped = MappedMemory.Map(imported, gpu.Device);
        gpu.Stream.Fill(mapped.Handle, 9, 100);
        gpu.Stream.Synchronize();
        Assert.Equal([9, CudaBytes.Fresh], bytes.Read<byte>(2, 99));
    }

    [Fact]
    public void A_descriptor_of_something_else_is_an_error()
    {
        using var gpu = new Gpu();
        using SafeFileHandle file = File.OpenHandle("/dev/null");
        CudaException error = Assert.Throws<CudaException>(() => PhysicalMemory.Import(file, gpu.Device, 1 << 21));
        Assert.Equal("cuMemImportFromShareableHandle", error.Call);
    }

    [Fact]
    public void More_than_there_is_is_an_error_that_tells_how_much_was_asked()
    {
        using var gpu = new Gpu();
        long bytes = 2 * gpu.Device.MemoryBytes;
        CudaException error = Assert.Throws<CudaException>(() => PhysicalMemory.Create(gpu.Device, bytes));
        Assert.Equal("CUDA_ERROR_OUT_OF_MEMORY", error.Name);
        Assert.Contains("bytes on device 0", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => PhysicalMemory.Create(gpu.Device, 0));
    }

    [Fact]
    public void Pinned_memory_is_zeroed_and_the_device_writes_into_it()
    {
        using var gpu = new Gpu();
        using PinnedMemory pinned = PinnedMemory.Allocate(gpu.Context, 4096);
        var bytes = new Span<byte>((void*)pinned.Handle, 4096);
        Assert.Equal(-1, bytes.IndexOfAnyExcept((byte)0));
        gpu.Stream.Fill(pinned.DeviceAddress, 1, 4096);
        gpu.Stream.Synchronize();
        Assert.Equal(-1, bytes.IndexOfAnyExcept((byte)1));
    }

    [Fact]
    public void An_address_is_known_for_what_it_is()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        using PinnedMemory pinned = PinnedMemory.Allocate(gpu.Context, 4096);
        nint ordinary = Marshal.AllocHGlobal(64);
        Assert.Equal(new PointerInfo(PointerKind.Device, 0), PointerInfo.Of(gpu.Context, bytes.Address + 12345));
        Assert.Equal(new PointerInfo(PointerKind.Host, 0), PointerInfo.Of(gpu.Context, pinned.Handle + 5));
        Assert.Equal(new PointerInfo(PointerKind.Unknown, -1), PointerInfo.Of(gpu.Context, ordinary));
        Marshal.FreeHGlobal(ordinary);
        nint gone = bytes.Address;
        bytes.Dispose();
        Assert.Equal(PointerKind.Unknown, PointerInfo.Of(gpu.Context, gone).Kind);
    }
}

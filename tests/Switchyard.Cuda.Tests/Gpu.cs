using System.Collections.Concurrent;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>A device with its context and kernels for one test, which is skipped with the reason where there is none.</summary>
internal sealed class Gpu : IDisposable
{
    /// <summary>Held to the end: to make a device's context takes most of a second.</summary>
    private static readonly ConcurrentDictionary<int, CudaContext> _contexts = new();

    public Gpu(int ordinal = 0)
    {
        SkipUnlessPresent(ordinal + 1);
        Device = CudaDevice.Get(ordinal);
        _ = _contexts.GetOrAdd(ordinal, _ => CudaContext.Retain(Device));
        Context = CudaContext.Retain(Device);
        Kernels = KernelSet.Load(Context);
        Stream = CudaStream.Create(Context);
    }

    public CudaDevice Device { get; }

    public CudaContext Context { get; }

    public KernelSet Kernels { get; }

    public CudaStream Stream { get; }

    public static void SkipUnlessPresent(int devices = 1)
    {
        string? reason = WhyMissing(devices);
        Assert.SkipUnless(reason is null, reason ?? "");
    }

    /// <summary>Why so many devices cannot be used here; null where they can.</summary>
    public static string? WhyMissing(int devices)
    {
        try
        {
            int count = CudaDevice.Count;
            if (count < devices) return $"needs {devices} CUDA devices, and {count} are visible";
            Version capability = CudaDevice.Get(0).ComputeCapability;
            return capability < KernelSet.MinimumCapability ? $"needs compute capability {KernelSet.MinimumCapability}, and device 0 has {capability}" : null;
        }
        catch (CudaUnavailableException unavailable)
        {
            return unavailable.Message;
        }
    }

    public CudaBytes Allocate(long bytes) => new(this, bytes);

    public void Dispose()
    {
        Stream.Dispose();
        Kernels.Dispose();
        Context.Dispose();
    }
}

/// <summary>Device memory of a test, and ways to look into it. Starts as <see cref="Fresh"/> bytes.</summary>
internal sealed unsafe class CudaBytes : IDisposable
{
    public const byte Fresh = 0xA5;
    private readonly PhysicalMemory _memory;
    private readonly MappedMemory _mapped;
    private readonly Gpu _gpu;

    public CudaBytes(Gpu gpu, long bytes, params ReadOnlySpan<CudaDevice> alsoFor)
    {
        _gpu = gpu;
        _memory = PhysicalMemory.Create(gpu.Device, bytes);
        _mapped = MappedMemory.Map(_memory, [gpu.Device, .. alsoFor]);
        _gpu.Stream.Fill(Address, Fresh, _mapped.Bytes);
        _gpu.Stream.Synchronize();
    }

    public nint Address => _mapped.Handle;

    public long Bytes => _mapped.Bytes;

    public PhysicalMemory Memory => _memory;

    public void Clear()
    {
        _gpu.Stream.Fill(Address, 0, Bytes);
        _gpu.Stream.Synchronize();
    }

    public void Write<T>(ReadOnlySpan<T> values, long offset = 0)
        where T : unmanaged
    {
        fixed (T* source = values) _gpu.Stream.Copy(Address + (nint)offset, (nint)source, (long)values.Length * sizeof(T));
        _gpu.Stream.Synchronize();
    }

    public T[] Read<T>(int count, long offset = 0)
        where T : unmanaged
    {
        var values = new T[count];
        fixed (T* target = values)
        {
            _gpu.Stream.Copy((nint)target, Address + (nint)offset, (long)count * sizeof(T));
            _gpu.Stream.Synchronize();
        }
        return values;
    }

    public void Dispose()
    {
        _mapped.Dispose();
        _memory.Dispose();
    }
}

using System.Collections.Concurrent;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Engine;

/// <summary>
/// A device as this process uses it: its context and its kernels, made at first use and kept to the end, since to load a kernel may wait for those
/// that run.
/// </summary>
internal sealed class CudaRuntime
{
    private static readonly ConcurrentDictionary<int, Lazy<CudaRuntime>> _all = new();
    private readonly Lock _gate = new();
    private readonly CudaStream _stream;

    private CudaRuntime(int ordinal)
    {
        Device = CudaDevice.Get(ordinal);
        Context = CudaContext.Retain(Device);
        Kernels = KernelSet.Load(Context);
        _stream = CudaStream.Create(Context);
        Multiprocessors = Device.MultiprocessorCount;
    }

    public CudaDevice Device { get; }

    public CudaContext Context { get; }

    public KernelSet Kernels { get; }

    public int Multiprocessors { get; }

    /// <exception cref="CudaUnavailableException">There is no driver, or the device cannot run the kernels.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such device.</exception>
    public static CudaRuntime Of(int ordinal) => _all.GetOrAdd(ordinal, each => new(() => new CudaRuntime(each))).Value;

    /// <summary>Copies between any memories; returns when it is done. Not for hot paths.</summary>
    public void CopyNow(nint target, nint source, long bytes)
    {
        lock (_gate)
        {
            _stream.Copy(target, source, bytes);
            _stream.Synchronize();
        }
    }

    public void FillNow(nint target, byte value, long bytes)
    {
        lock (_gate)
        {
            _stream.Fill(target, value, bytes);
            _stream.Synchronize();
        }
    }
}

using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Tests;

/// <summary>Work for a stream that takes some milliseconds a copy, from the host, and leaves the multiprocessors alone.</summary>
internal sealed class SlowCopies(Gpu gpu) : IDisposable
{
    private const int Bytes = 64 << 20;
    private readonly PinnedMemory _source = PinnedMemory.Allocate(gpu.Context, Bytes);
    private readonly CudaBytes _target = gpu.Allocate(Bytes);
    private readonly CudaEvent _done = CudaEvent.Create(gpu.Context);

    public void Enqueue(CudaStream stream, int copies)
    {
        for (int copy = 0; copy < copies; copy++) stream.Copy(_target.Address, _source.Handle, Bytes);
    }

    /// <summary>An event that comes behind so many copies.</summary>
    public CudaEvent DoneAfter(int copies)
    {
        Enqueue(gpu.Stream, copies);
        _done.Record(gpu.Stream);
        return _done;
    }

    public void Dispose()
    {
        gpu.Context.Synchronize();
        _done.Dispose();
        _target.Dispose();
        _source.Dispose();
    }
}

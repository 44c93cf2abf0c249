using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>
/// An order of work on a device. One of our own, which never waits for the default stream; or a caller's, known by its handle, which is
/// never destroyed (handle 0 is the default stream).
/// </summary>
internal sealed unsafe partial class CudaStream : IDisposable
{
    /// <summary>A handle that stands for another stream on each thread (CU_STREAM_PER_THREAD).</summary>
    public const nint OfEachThread = 2;

    private readonly nint _handle;
    private int _ownedAlive;
    private bool _disposed;

    private CudaStream(CudaContext context, nint handle, bool owned)
    {
        Context = context;
        _handle = handle;
        _ownedAlive = owned ? 1 : 0;
    }

    public CudaContext Context { get; }

    public nint Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _handle;
        }
    }

    /// <summary>Whether everything enqueued so far is done.</summary>
    public bool IsIdle
    {
        get
        {
            using CudaContext.Scope scope = Context.Enter();
            CUresult result = LibCuda.cuStreamQuery(Handle);
            if (result == CUresult.CUDA_ERROR_NOT_READY) return false;
            Check(result, nameof(LibCuda.cuStreamQuery));
            return true;
        }
    }

    /// <summary>Whether work enqueued now goes into a graph that is being captured, to run later and maybe often.</summary>
    public bool IsCapturing
    {
        get
        {
            using CudaContext.Scope scope = Context.Enter();
            CUstreamCaptureStatus status;
            Check(LibCuda.cuStreamIsCapturing(Handle, &status), nameof(LibCuda.cuStreamIsCapturing));
            return status != CUstreamCaptureStatus.NONE;
        }
    }

    public static CudaStream Create(CudaContext context)
    {
        using CudaContext.Scope scope = context.Enter();
        nint stream;
        Check(LibCuda.cuStreamCreate(&stream, LibCuda.CU_STREAM_NON_BLOCKING), nameof(LibCuda.cuStreamCreate));
        return new CudaStream(context, stream, owned: true);
    }

    public static CudaStream Borrow(CudaContext context, nint handle) => new(context, handle, owned: false);

    /// <summary>Waits until all that was enqueued is done; an error of a kernel comes out here.</summary>
    public void Synchronize()
    {
        using CudaContext.Scope scope = Context.Enter();
        Check(LibCuda.cuStreamSynchronize(Handle), nameof(LibCuda.cuStreamSynchronize));
    }

    /// <summary>What is enqueued from now on starts after what <paramref name="cudaEvent"/> has recorded.</summary>
    public void WaitFor(CudaEvent cudaEvent)
    {
        using CudaContext.Scope scope = Context.Enter();
        Check(LibCuda.cuStreamWaitEvent(Handle, cudaEvent.Handle, 0), nameof(LibCuda.cuStreamWaitEvent));
    }

    /// <summary>What is enqueued from now on starts after what a caller's event has recorded.</summary>
    public void WaitFor(nint callersEvent)
    {
        using CudaContext.Scope scope = Context.Enter();
        Check(LibCuda.cuStreamWaitEvent(Handle, callersEvent, 0), nameof(LibCuda.cuStreamWaitEvent));
    }

    /// <summary>Records a caller's event behind what is enqueued.</summary>
    public void Signal(nint callersEvent)
    {
        using CudaContext.Scope scope = Context.Enter();
        Check(LibCuda.cuEventRecord(callersEvent, Handle), nameof(LibCuda.cuEventRecord));
    }

    /// <summary>Enqueued work still runs; a stream of our own goes when it is done.</summary>
    public void Dispose()
    {
        _disposed = true;
        if (Interlocked.Exchange(ref _ownedAlive, 0) != 0) _ = LibCuda.cuStreamDestroy(_handle);
    }
}

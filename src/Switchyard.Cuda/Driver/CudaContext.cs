using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>
/// A device's primary context: the one that the CUDA runtime and so PyTorch use, shared by all in the process. It is held while this object
/// lives, never reset or destroyed; where a thread has another context, that is current again after each call.
/// </summary>
internal sealed unsafe class CudaContext : DriverObject
{
    /// <summary>The context that this thread has entered and not left.</summary>
    [ThreadStatic]
    private static nint _entered;

    private CudaContext(CudaDevice device, nint handle) : base(handle) => Device = device;

    public CudaDevice Device { get; }

    /// <summary>Holds the primary context of <paramref name="device"/>, which is made where nobody uses it yet.</summary>
    public static CudaContext Retain(CudaDevice device)
    {
        nint context;
        Check(LibCuda.cuDevicePrimaryCtxRetain(&context, device.Number), nameof(LibCuda.cuDevicePrimaryCtxRetain), $"of device {device.Ordinal}");
        return new CudaContext(device, context);
    }

    /// <summary>
    /// Makes the context current on this thread until the scope is disposed, on the same thread. Where the thread has none it stays current: that takes
    /// nothing from anybody, and to change it takes some 5 microseconds.
    /// </summary>
    public Scope Enter()
    {
        if (_entered == Handle) return default;
        nint current;
        Check(LibCuda.cuCtxGetCurrent(&current), nameof(LibCuda.cuCtxGetCurrent));
        bool pushes = current != Handle && current != 0;
        if (pushes) Check(LibCuda.cuCtxPushCurrent(Handle), nameof(LibCuda.cuCtxPushCurrent));
        else if (current == 0) Check(LibCuda.cuCtxSetCurrent(Handle), nameof(LibCuda.cuCtxSetCurrent));
        var scope = new Scope(_entered, pushes);
        _entered = Handle;
        return scope;
    }

    /// <summary>The same where nothing is to fail: of a broken context every call returns its error anyway.</summary>
    public Scope EnterUnlessBroken()
    {
        try
        {
            return Enter();
        }
        catch (CudaException)
        {
            return default;
        }
    }

    /// <summary>Waits for all that was enqueued in the context, by whomever.</summary>
    public void Synchronize()
    {
        using Scope scope = Enter();
        Check(LibCuda.cuCtxSynchronize(), nameof(LibCuda.cuCtxSynchronize));
    }

    protected override void Release(nint handle) => _ = LibCuda.cuDevicePrimaryCtxRelease(Device.Number);

    /// <summary>While it lives, the context is current on the thread; one inside another of the same context does nothing.</summary>
    public readonly ref struct Scope
    {
        private readonly nint _outer;
        private readonly bool _enters;
        private readonly bool _pushes;

        internal Scope(nint outer, bool pushes) => (_outer, _enters, _pushes) = (outer, true, pushes);

        /// <summary>Restores what was current before.</summary>
        public void Dispose()
        {
            if (!_enters) return;
            _entered = _outer;
            if (!_pushes) return;
            nint popped;
            _ = LibCuda.cuCtxPopCurrent(&popped);
        }
    }
}

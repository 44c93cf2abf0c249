namespace Switchyard.Cuda.Driver;

/// <summary>
/// Something of the driver's that is given back once, by <see cref="Dispose"/> and never by a finalizer: giving back memory may wait for
/// kernels, and kernels may wait for what the collecting thread would hold up. What is not disposed lives as long as the process.
/// </summary>
internal abstract class DriverObject(nint handle) : IDisposable
{
    private nint _handle = handle;

    public nint Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle == 0, this);
            return _handle;
        }
    }

    public void Dispose()
    {
        nint handle = Interlocked.Exchange(ref _handle, 0);
        if (handle != 0) Release(handle);
    }

    /// <summary>Gives the handle back. A result is not looked at: a broken context returns its own error from every call.</summary>
    protected abstract void Release(nint handle);
}

namespace Switchyard.Conformance;

/// <summary>How a test reaches the memory of a rank's device: memory of its own there, and copies either way.</summary>
public abstract class DeviceAccess : IDisposable
{
    /// <summary>The device's number.</summary>
    public abstract int Device { get; }

    /// <summary>Rows have a multiple of so many bytes.</summary>
    public abstract int RowGranularity { get; }

    /// <summary>Memory of the device until <see cref="Forget"/>; aligned for rows.</summary>
    public abstract nint Allocate(long bytes);

    /// <summary>Takes back all that was allocated.</summary>
    public abstract void Forget();

    /// <summary>Copies between the host and the device, either way; returns when it is done.</summary>
    public abstract void Copy(nint target, nint source, long bytes);

    public abstract void Fill(nint target, byte value, long bytes);

    public abstract void Dispose();
}

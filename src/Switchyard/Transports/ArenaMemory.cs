using Microsoft.Win32.SafeHandles;

namespace Switchyard.Transports;

/// <summary>A range of memory that holds an arena, mapped into this process. Reference-counted: unmapped when the last holder releases it.</summary>
internal abstract class ArenaMemory
{
    private int _holders = 1;

    /// <summary>The first byte, aligned to a page; of a device's memory only for kernels. Valid while the caller holds a reference.</summary>
    public abstract nint Address { get; }

    public abstract long Bytes { get; }

    /// <summary>A descriptor by which another process maps the same memory; owned by this object.</summary>
    public abstract SafeFileHandle Descriptor { get; }

    /// <summary>Reads bytes, wherever the memory is. Not for hot paths.</summary>
    public abstract void Read(long offset, Span<byte> bytes);

    /// <summary>Writes bytes, wherever the memory is. Not for hot paths.</summary>
    public abstract void Write(long offset, ReadOnlySpan<byte> bytes);

    public void AddHolder()
    {
        int holders;
        do
        {
            holders = Volatile.Read(ref _holders);
            ObjectDisposedException.ThrowIf(holders == 0, this);
        }
        while (Interlocked.CompareExchange(ref _holders, holders + 1, holders) != holders);
    }

    public void Release()
    {
        if (Interlocked.Decrement(ref _holders) == 0) Unmap();
    }

    protected abstract void Unmap();
}

/// <summary>An arena on its way to a peer: the mapped memory itself within a process, a descriptor between processes.</summary>
internal sealed class ArenaExport : IDisposable
{
    private ArenaExport(ArenaMemory? inProcess, SafeFileHandle? descriptor, long bytes)
    {
        InProcess = inProcess;
        Descriptor = descriptor;
        Bytes = bytes;
    }

    public ArenaMemory? InProcess { get; }

    public SafeFileHandle? Descriptor { get; }

    public long Bytes { get; }

    /// <summary>Shares memory of this process; the export holds a reference until disposed.</summary>
    public static ArenaExport Of(ArenaMemory memory)
    {
        memory.AddHolder();
        return new(memory, memory.Descriptor, memory.Bytes);
    }

    /// <summary>What a peer process sent; the export owns the descriptor.</summary>
    public static ArenaExport Received(SafeFileHandle descriptor, long bytes) => new(null, descriptor, bytes);

    public void Dispose()
    {
        if (InProcess is { } memory) memory.Release();
        else Descriptor?.Dispose();
    }
}

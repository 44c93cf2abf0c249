using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;
using Switchyard.Transports;

namespace Switchyard.Rendezvous;

/// <summary>What a peer gives to an all-gather, while its chunks arrive. Memory grows with what has come, not with what is announced.</summary>
internal sealed class Contribution : IDisposable
{
    private readonly int _total;
    private byte[] _payload = [];
    private ArenaExport? _arena;
    private int _received;

    private Contribution(int total, ArenaExport? arena)
    {
        _total = total;
        _arena = arena;
    }

    public bool IsWhole => _received == _total;

    /// <summary>Begins with the first chunk; takes over the descriptor, which must be that of a sealed memory of the stated length.</summary>
    public static Contribution Begin(int peer, LinkFrame frame, List<SafeFileHandle> descriptors)
    {
        if (frame.TotalBytes is < 0 or > LinkFrame.MaxTotalBytes)
            throw new ProtocolException(peer, $"it announced {frame.TotalBytes} bytes; at most {LinkFrame.MaxTotalBytes} are allowed");
        if (descriptors.Count != (frame.ArenaBytes != 0 ? 1 : 0))
            throw new ProtocolException(peer, $"it sent {descriptors.Count} descriptors with an arena of {frame.ArenaBytes} bytes");
        ArenaExport? arena = null;
        if (frame.ArenaBytes != 0)
        {
            RefuseUnsealed(peer, descriptors[0], frame.ArenaBytes);
            arena = ArenaExport.Received(descriptors[0], frame.ArenaBytes);
            descriptors.Clear();
        }
        return new Contribution((int)frame.TotalBytes, arena);
    }

    public void Add(int peer, LinkFrame frame, ReadOnlySpan<byte> chunk)
    {
        bool continues = frame.Offset == _received && frame.TotalBytes == _total && chunk.Length <= _total - _received;
        if (!continues || (chunk.IsEmpty && !IsWhole))
        {
            throw new ProtocolException(
                peer, $"it sent {chunk.Length} bytes at {frame.Offset} of {frame.TotalBytes}, after {_received} of {_total}");
        }
        int needed = _received + chunk.Length;
        if (needed > _payload.Length) Array.Resize(ref _payload, (int)Math.Min(_total, Math.Max(needed, 2L * _payload.Length)));
        chunk.CopyTo(_payload.AsSpan(_received));
        _received += chunk.Length;
    }

    public Gathered Take()
    {
        var gathered = new Gathered(_payload, _arena);
        _arena = null;
        return gathered;
    }

    public void Dispose() => _arena?.Dispose();

    /// <summary>Memory that its owner could still shrink would kill whoever touches it.</summary>
    private static void RefuseUnsealed(int peer, SafeFileHandle descriptor, long bytes)
    {
        const int Required = Libc.F_SEAL_SEAL | Libc.F_SEAL_SHRINK | Libc.F_SEAL_GROW;
        int seals = Libc.fcntl((int)descriptor.DangerousGetHandle(), Libc.F_GET_SEALS, 0);
        // What is no file, such as a device's memory, has neither seals nor a length that could change: its backend knows what it is.
        if (seals < 0 && !FileStatus.Of(descriptor).IsRegular) return;
        if (seals < 0 || (seals & Required) != Required)
            throw new ProtocolException(peer, "it shared memory that is not sealed against shrinking, growing and further sealing");
        ulong actual = FileStatus.Of(descriptor).Bytes;
        if (bytes < 0 || actual != (ulong)bytes)
            throw new ProtocolException(peer, $"it shared memory of {actual} bytes as an arena of {bytes}");
    }
}

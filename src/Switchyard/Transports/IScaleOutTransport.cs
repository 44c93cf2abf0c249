namespace Switchyard.Transports;

/// <summary>
/// The contract between nodes: one-sided puts into a peer's arena. A flag is put only after the flush of the rows it announces:
/// no order of issue is relied on.
/// </summary>
internal interface IScaleOutTransport
{
    /// <summary>Makes an arena reachable for puts; the bytes name it to peers.</summary>
    byte[] Register(ArenaMemory arena);

    /// <summary>Connects to a peer's registered arena.</summary>
    IScaleOutPeer Connect(int rank, ReadOnlySpan<byte> registration);
}

/// <summary>A peer's arena on another node.</summary>
internal interface IScaleOutPeer : IDisposable
{
    /// <summary>Starts to write <paramref name="bytes"/> bytes from local registered memory; they must stay until flushed.</summary>
    void Put(nint source, long destinationOffset, long bytes);

    /// <summary>Whether all puts so far are visible at the peer.</summary>
    bool TryFlush();
}

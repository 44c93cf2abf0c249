using System.Globalization;

namespace Switchyard;

/// <summary>What a buffer takes on each rank, by part. <see cref="ToString"/> gives it a line each.</summary>
public sealed record MemoryEstimate
{
    /// <summary>Shared: control words, fault records and the announcements of all ranks with their counts.</summary>
    public required long ControlBytes { get; init; }

    /// <summary>Shared: the pool for received rows and results, <see cref="ExpertBufferOptions.MemoryBudget"/> in whole pages.</summary>
    public required long PoolBytes { get; init; }

    /// <summary>The arena: shared memory of one rank. A machine must have it for each of its ranks.</summary>
    public long ArenaBytes => ControlBytes + PoolBytes;

    /// <summary>Rows that a rank can receive in one call.</summary>
    public required int ReceiveCapacity { get; init; }

    /// <summary>Of the pool, what one result of that many rows takes: rows of the buffer's element with the metadata of rank-major.</summary>
    public required long ResultBytes { get; init; }

    /// <summary>Managed: what each live handle takes. With <see cref="DispatchOptions.PreReduce"/> twice that, and the groups of rows.</summary>
    public required long HandleBytes { get; init; }

    /// <summary>
    /// Memory of a device, beside the arena, that each live handle takes: room for 9 is taken with the buffer, one of which is kept for refusals, and for as many
    /// more as there are whenever they run out. With <see cref="DispatchOptions.PreReduce"/> also 4 bytes × top-k × the rows of a result each, which are <see cref="ReceiveCapacity"/> and
    /// what alignment may add. 0 where the backend has no device.
    /// </summary>
    public long DeviceHandleBytes { get; init; }

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"""
        arena of a rank      {ArenaBytes,16:N0} bytes
          control            {ControlBytes,16:N0} bytes
          pool               {PoolBytes,16:N0} bytes, room for {(double)PoolBytes / ResultBytes:0.##} results of {ReceiveCapacity:N0} rows
            a result         {ResultBytes,16:N0} bytes
        managed, a handle    {HandleBytes,16:N0} bytes
        device, a handle     {DeviceHandleBytes,16:N0} bytes
        """);
}

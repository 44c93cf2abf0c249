using Switchyard.Cpu.Vectors;
using Switchyard.Topology;

namespace Switchyard.Cpu;

/// <summary>How the engine moves rows. Nothing of it changes a result. The numbers were found by measuring: docs/cpu-tuning.md.</summary>
internal sealed record CpuTuning
{
    /// <summary>The vectors that loops run with.</summary>
    public VectorWidth Width { get; init; } = VectorWidths.Best;

    /// <summary>
    /// A phase that writes at least this much on a rank stores past the caches: through them it would push out everything else before it is
    /// read. Smaller ones are faster through the caches, where the reader finds them. Null: by the size of the last cache.
    /// </summary>
    public long? StreamingBytes { get; init; }

    private const long MostCachedBytes = 6 << 20;

    /// <summary>What a thread takes at a time: some 5 µs of copying.</summary>
    public long PieceBytes { get; init; } = 128 << 10;

    /// <summary>
    /// <see cref="StreamingBytes"/> for so many ranks: together they fill at most two fifths of the last cache, and none more than was found to
    /// pay where that cache is huge.
    /// </summary>
    public long StreamingBytesFor(int ranks) => StreamingBytes ?? Math.Min(MostCachedBytes, ProcessorCaches.LastLevelBytes * 2 / (5 * ranks));
}

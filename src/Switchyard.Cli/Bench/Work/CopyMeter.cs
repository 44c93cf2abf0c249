using System.Diagnostics;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard.Cli.Bench.Work;

/// <summary>
/// The copy that the phases are held against: all ranks at once, each within arena memory of its own, twice the last cache in all, once
/// by memcpy and once by a loop of stores that bypass the caches.
/// </summary>
internal sealed unsafe class CopyMeter : IDisposable
{
    private const long PageBytes = 4096;

    private readonly ArenaMemory _memory;
    private readonly StartLine _line;

    public CopyMeter(ExpertBackend backend, int ranks, StartLine line)
    {
        _line = line;
        Bytes = ((2 * ProcessorCaches.LastLevelBytes / ranks) + PageBytes - 1) / PageBytes * PageBytes;
        _memory = backend.ScaleUp.Allocate(2 * Bytes);
        SplitMix random = default;
        var words = new Span<ulong>((void*)_memory.Address, checked((int)(2 * Bytes / sizeof(ulong))));
        foreach (ref ulong word in words)
            word = random.Next();
    }

    /// <summary>Bytes that one rank copies.</summary>
    public long Bytes { get; }

    /// <summary>All ranks take the same number of samples.</summary>
    public List<Interval> Memcpy { get; } = [];

    /// <inheritdoc cref="Memcpy"/>
    public List<Interval> Stream { get; } = [];

    public void Sample()
    {
        byte* source = (byte*)_memory.Address, target = source + Bytes;
        _line.Wait();
        long start = Stopwatch.GetTimestamp();
        Buffer.MemoryCopy(source, target, Bytes, Bytes);
        Memcpy.Add(new Interval(start, Stopwatch.GetTimestamp()));
        _line.Wait();
        start = Stopwatch.GetTimestamp();
        StreamCopy(source, target, Bytes);
        Stream.Add(new Interval(start, Stopwatch.GetTimestamp()));
    }

    public void Dispose() => _memory.Release();

    private static void StreamCopy(byte* source, byte* target, long bytes)
    {
        for (byte* end = source + bytes; source < end; source += 2 * Vector256<byte>.Count, target += 2 * Vector256<byte>.Count)
        {
            Vector256<byte> lower = Vector256.LoadAligned(source);
            Vector256<byte> upper = Vector256.LoadAligned(source + Vector256<byte>.Count);
            lower.StoreAlignedNonTemporal(target);
            upper.StoreAlignedNonTemporal(target + Vector256<byte>.Count);
        }
        Sse.StoreFence();
    }
}

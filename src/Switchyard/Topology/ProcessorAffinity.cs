using System.Runtime.InteropServices;
using Switchyard.Interop;

namespace Switchyard.Topology;

/// <summary>Which processors a thread may run on.</summary>
internal static unsafe class ProcessorAffinity
{
    /// <summary>More processors than Linux is built for.</summary>
    private const int MaxProcessors = 8192;

    /// <summary>The processors that the calling thread may use.</summary>
    public static HashSet<int> Usable()
    {
        byte[] set = UsableBits();
        return [.. Enumerable.Range(0, MaxProcessors).Where(processor => (set[processor / 8] & (1 << (processor % 8))) != 0)];
    }

    /// <summary>The same as a bit each.</summary>
    public static byte[] UsableBits()
    {
        var bits = new byte[MaxProcessors / 8];
        fixed (byte* set = bits)
        {
            if (Libc.sched_getaffinity(0, MaxProcessors / 8, set) != 0)
                throw new TransportException("sched_getaffinity", Marshal.GetLastPInvokeError(), "Cannot tell which processors may be used.");
        }
        return bits;
    }

    /// <summary>Binds the calling thread, and the threads and processes that it starts, to some processors.</summary>
    /// <param name="what">What that is, and the option that asks for it.</param>
    /// <param name="processors">The processors, by number.</param>
    public static void Bind(string what, params ReadOnlySpan<int> processors)
    {
        byte* set = stackalloc byte[MaxProcessors / 8];
        new Span<byte>(set, MaxProcessors / 8).Clear();
        foreach (int processor in processors) set[processor / 8] |= (byte)(1 << (processor % 8));
        if (Libc.sched_setaffinity(0, MaxProcessors / 8, set) != 0)
            throw new TransportException("sched_setaffinity", Marshal.GetLastPInvokeError(), $"Cannot bind {what} to processors {string.Join(", ", processors.ToArray())}.");
    }
}

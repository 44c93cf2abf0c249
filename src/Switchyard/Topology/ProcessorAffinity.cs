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
        byte* set = stackalloc byte[MaxProcessors / 8];
        if (Libc.sched_getaffinity(0, MaxProcessors / 8, set) != 0)
            throw new TransportException("sched_getaffinity", Marshal.GetLastPInvokeError(), "Cannot tell which processors may be used.");
        var usable = new HashSet<int>();
        for (int processor = 0; processor < MaxProcessors; processor++)
        {
            if ((set[processor / 8] & (1 << (processor % 8))) != 0) usable.Add(processor);
        }
        return usable;
    }

    /// <summary>Binds the calling thread to one processor.</summary>
    public static void Bind(int processor)
    {
        byte* set = stackalloc byte[MaxProcessors / 8];
        new Span<byte>(set, MaxProcessors / 8).Clear();
        set[processor / 8] |= (byte)(1 << (processor % 8));
        if (Libc.sched_setaffinity(0, MaxProcessors / 8, set) != 0)
            throw new TransportException("sched_setaffinity", Marshal.GetLastPInvokeError(), $"Cannot bind a worker thread to processor {processor} (ExpertBufferOptions.CpuAffinity).");
    }
}

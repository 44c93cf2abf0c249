using System.Globalization;
using System.Runtime.InteropServices;

namespace Switchyard.Interop;

/// <summary>
/// The kernel's limits on this process, asked before they would be met half-way: by an error without a cause, or, for the size of files, by a signal.
/// </summary>
internal static unsafe class ProcessLimits
{
    /// <summary>For what the runtime and the program open meanwhile.</summary>
    private const int SpareDescriptors = 16;

    /// <exception cref="TransportException">Fewer can be opened.</exception>
    public static void RequireDescriptors(int count, string what)
    {
        if (Soft(Libc.RLIMIT_NOFILE) is not { } limit) return;
        int open = Directory.GetFiles("/proc/self/fd").Length;
        if (open + count + SpareDescriptors <= limit) return;
        throw new TransportException("getrlimit", Libc.EMFILE,
            $"This process may have {limit} descriptors and has {open} open; {what} it needs {count + SpareDescriptors} more: raise RLIMIT_NOFILE ('ulimit -n').");
    }

    /// <summary>A memfd is a file: one that grows beyond the limit has its process killed by SIGXFSZ.</summary>
    /// <exception cref="TransportException">A file may not be as large.</exception>
    public static void RequireFileSize(long bytes)
    {
        if (Soft(Libc.RLIMIT_FSIZE) is not { } limit || bytes <= limit) return;
        throw new TransportException("getrlimit", Libc.EFBIG,
            $"An arena of {bytes} bytes is larger than the {limit} bytes that a file of this process may have: lower ExpertBufferOptions.MemoryBudget, or raise RLIMIT_FSIZE ('ulimit -f').");
    }

    /// <exception cref="TransportException">The arenas of all ranks cannot be mapped together.</exception>
    public static void RequireAddressSpace(long bytes, int arenas)
    {
        if (Soft(Libc.RLIMIT_AS) is not { } limit) return;
        long used = long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[0], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
        if (bytes <= Math.Max(0, limit - used) / arenas) return;
        throw new TransportException("getrlimit", Libc.ENOMEM,
            $"{arenas} arenas of {bytes} bytes do not fit into what is left of this process's address space, {used} of {limit} bytes: lower ExpertBufferOptions.MemoryBudget, or raise RLIMIT_AS ('ulimit -v').");
    }

    /// <summary>Null for no limit.</summary>
    private static long? Soft(int resource)
    {
        Rlimit limit;
        if (Libc.getrlimit(resource, &limit) != 0)
            throw new TransportException("getrlimit", Marshal.GetLastPInvokeError(), "Cannot tell this process's limits.");
        return limit.Soft <= long.MaxValue ? (long)limit.Soft : null;
    }
}

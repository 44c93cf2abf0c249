using System.Runtime.InteropServices;

namespace Switchyard.Interop;

internal static unsafe partial class Libc
{
    public const int EAGAIN = 11;
    public const int EINTR = 4;
    private const long SYS_futex = 202; // x86-64
    private const int FUTEX_WAIT = 0; // not FUTEX_PRIVATE: the word is shared between processes
    private const int FUTEX_WAKE = 1;

    /// <summary>Sleeps while <paramref name="word"/> is <paramref name="expected"/>, at most <paramref name="timeout"/>. May return early.</summary>
    public static int futex_wait(uint* word, uint expected, Timespec* timeout) =>
        (int)syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout, null, 0);

    /// <summary>Wakes all sleepers of <paramref name="word"/>.</summary>
    public static int futex_wake_all(uint* word) => (int)syscall(SYS_futex, word, FUTEX_WAKE, int.MaxValue, null, null, 0);

    [LibraryImport(Library, SetLastError = true)]
    private static partial long syscall(long number, uint* word, long operation, long value, Timespec* timeout, uint* word2, long value3);
}

[StructLayout(LayoutKind.Sequential)]
internal struct Timespec
{
    public long Seconds;
    public long Nanoseconds;
}

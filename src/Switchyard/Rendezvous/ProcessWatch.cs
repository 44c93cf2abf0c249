using System.Buffers.Text;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>
/// Tells a killed process before its connections close: they do so only when the kernel has taken its memory down, which takes some 75 ms a
/// gigabyte. Its first thread begins to exit well before that.
/// </summary>
internal sealed unsafe class ProcessWatch : IDisposable
{
    private const int MostBytes = 512; // of which the flags are within the first hundred
    private const int FlagsField = 7; // counted from the one behind the name
    private const uint Exiting = 4; // PF_EXITING of the kernel

    private readonly SafeFileHandle _status;

    private ProcessWatch(SafeFileHandle status) => _status = status;

    /// <summary>Null where the process cannot be seen from this one's namespace.</summary>
    public static ProcessWatch? Of(SafeFileHandle process)
    {
        int fd = Libc.open($"/proc/{NumberOf(process)}/stat", Libc.O_CLOEXEC, 0);
        return fd < 0 ? null : new ProcessWatch(new SafeFileHandle(fd, ownsHandle: true));
    }

    /// <summary>Whether its first thread exits or has. The open file stays that process's, whoever gets its number later.</summary>
    public bool IsEnding()
    {
        byte* text = stackalloc byte[MostBytes];
        nint length = Libc.pread((int)_status.DangerousGetHandle(), text, MostBytes, 0);
        if (length <= 0) return Marshal.GetLastPInvokeError() == Libc.ESRCH;
        var line = new ReadOnlySpan<byte>(text, (int)length);
        int name = line.LastIndexOf((byte)')'); // the name in brackets may hold anything
        return name >= 0 && IsExiting(line[(name + 1)..]);
    }

    private static bool IsExiting(ReadOnlySpan<byte> fields)
    {
        int at = 0;
        foreach (Range field in fields.Split((byte)' '))
        {
            if (at++ < FlagsField) continue;
            return Utf8Parser.TryParse(fields[field], out uint flags, out _) && (flags & Exiting) != 0;
        }
        return false;
    }

    public void Dispose() => _status.Dispose();

    /// <summary>Its number in this process's namespace; 0 where it has none.</summary>
    private static int NumberOf(SafeFileHandle process)
    {
        string? line = File.ReadLines($"/proc/self/fdinfo/{process.DangerousGetHandle()}").FirstOrDefault(each => each.StartsWith("Pid:", StringComparison.Ordinal));
        return int.TryParse(line.AsSpan(Math.Min(4, line?.Length ?? 0)).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : 0;
    }
}

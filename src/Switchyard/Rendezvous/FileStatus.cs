using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>Who owns a file and who may use it.</summary>
internal readonly record struct FileStatus(uint UserId, int Mode, ulong Inode, ulong Device, ulong Bytes)
{
    private const int TypeMask = 0xF000;

    public bool IsDirectory => (Mode & TypeMask) == 0x4000;

    public bool IsRegular => (Mode & TypeMask) == 0x8000;

    public bool IsSymbolicLink => (Mode & TypeMask) == 0xA000;

    public bool IsOwn => UserId == Libc.geteuid();

    public bool IsPrivate => (Mode & 0x3F) == 0;

    public string Permissions => Convert.ToString(Mode & 0x1FF, 8).PadLeft(4, '0');

    /// <summary>Looks at the path itself, a symbolic link included; null where nothing is there.</summary>
    public static FileStatus? Of(string path) => Read(Libc.AT_FDCWD, path, Libc.AT_SYMLINK_NOFOLLOW);

    public static FileStatus Of(SafeFileHandle file) =>
        Read((int)file.DangerousGetHandle(), "", Libc.AT_EMPTY_PATH)
        ?? throw new TransportException("statx", Marshal.GetLastPInvokeError(), "An open file has no status.");

    private static unsafe FileStatus? Read(int directory, string path, int flags)
    {
        Statx status;
        if (Libc.statx(directory, path, flags, Libc.STATX_BASIC_STATS, &status) == 0)
        {
            ulong device = ((ulong)status.DeviceMajor << 32) | status.DeviceMinor;
            return new FileStatus(status.UserId, status.Mode, status.Inode, device, status.Bytes);
        }
        int error = Marshal.GetLastPInvokeError();
        return error == Libc.ENOENT ? null : throw new TransportException("statx", error, $"Cannot look at '{path}'.");
    }
}

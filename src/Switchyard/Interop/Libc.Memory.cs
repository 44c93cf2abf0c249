using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Switchyard.Interop;

internal static unsafe partial class Libc
{
    public const int EIO = 5;
    public const int ENOMEM = 12;
    public const int ENODEV = 19;
    public const uint MFD_CLOEXEC = 1;
    public const uint MFD_ALLOW_SEALING = 2;
    public const int F_ADD_SEALS = 1033;
    public const int F_GET_SEALS = 1034;
    public const int F_SEAL_SEAL = 1;
    public const int F_SEAL_SHRINK = 2;
    public const int F_SEAL_GROW = 4;
    public const int PROT_NONE = 0;
    public const int PROT_READ_WRITE = 3;
    public const int MAP_SHARED = 1;
    public const int MAP_PRIVATE = 2;
    public const int MAP_FIXED = 0x10;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_NORESERVE = 0x4000;
    public const int MADV_COLLAPSE = 25;
    public static readonly nint MAP_FAILED = -1;

    [LibraryImport(Library, SetLastError = true)]
    public static partial int memfd_create(byte* name, uint flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ftruncate(int fd, long length);

    /// <summary>Returns the error number instead of setting it.</summary>
    [LibraryImport(Library)]
    public static partial int posix_fallocate(int fd, long offset, long length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fcntl(int fd, int command, nint argument);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int madvise(nint address, nuint length, int advice);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int munmap(nint address, nuint length);
}

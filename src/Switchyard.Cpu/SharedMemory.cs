using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>
/// A memfd mapped into this process. Its pages exist from the start, so that no later access can fail for want of memory, and it is sealed against
/// shrinking and growing, so that no peer can take them away. They are huge where the kernel has such: taken and first touched in a fraction of the
/// time, and page tables of many ranks that all map each other's arenas do not fill the caches.
/// </summary>
internal sealed unsafe class SharedMemory : ArenaMemory
{
    /// <summary>Bytes, and what a mapping's address must be a multiple of to have them.</summary>
    private const int HugePage = 2 << 20;

    private SharedMemory(SafeFileHandle descriptor, nint address, long bytes)
    {
        Descriptor = descriptor;
        Address = address;
        Bytes = bytes;
    }

    public override nint Address { get; }

    public override long Bytes { get; }

    public override SafeFileHandle Descriptor { get; }

    public static SharedMemory Create(long bytes)
    {
        SafeFileHandle descriptor = CreateFile();
        SharedMemory? memory = null;
        try
        {
            int fd = (int)descriptor.DangerousGetHandle();
            if (Libc.ftruncate(fd, bytes) != 0) throw Failed("ftruncate", bytes);
            memory = Map(descriptor, bytes);
            memory.TakePages(fd);
            return Libc.fcntl(fd, Libc.F_ADD_SEALS, Libc.F_SEAL_SHRINK | Libc.F_SEAL_GROW | Libc.F_SEAL_SEAL) == 0 ? memory : throw Failed("fcntl(F_ADD_SEALS)", bytes);
        }
        catch
        {
            if (memory is null) descriptor.Dispose();
            else memory.Release();
            throw;
        }
    }

    /// <summary>Maps a memfd. The mapping outlives the descriptor.</summary>
    public static SharedMemory Map(SafeFileHandle descriptor, long bytes)
    {
        // The kernel does not align a memfd by itself: more is reserved, and what lies around the aligned place is given back.
        nint pages = (nint)((bytes + Environment.SystemPageSize - 1) & -Environment.SystemPageSize);
        nint reserved = Libc.mmap(0, (nuint)(pages + HugePage), Libc.PROT_NONE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE, -1, 0);
        if (reserved == Libc.MAP_FAILED) throw Failed("mmap", bytes);
        nint place = (reserved + HugePage - 1) & -HugePage, before = place - reserved;
        if (Libc.mmap(place, (nuint)bytes, Libc.PROT_READ_WRITE, Libc.MAP_SHARED | Libc.MAP_FIXED, (int)descriptor.DangerousGetHandle(), 0) == Libc.MAP_FAILED)
        {
            TransportException failure = Failed("mmap", bytes);
            _ = Libc.munmap(reserved, (nuint)(pages + HugePage));
            throw failure;
        }
        if (before > 0) _ = Libc.munmap(reserved, (nuint)before);
        _ = Libc.munmap(place + pages, (nuint)(HugePage - before));
        return new SharedMemory(descriptor, place, bytes);
    }

    public override void Read(long offset, Span<byte> bytes) => new ReadOnlySpan<byte>((byte*)Address + offset, bytes.Length).CopyTo(bytes);

    public override void Write(long offset, ReadOnlySpan<byte> bytes) => bytes.CopyTo(new Span<byte>((byte*)Address + offset, bytes.Length));

    protected override void Unmap()
    {
        _ = Libc.munmap(Address, (nuint)Bytes);
        Descriptor.Dispose();
    }

    private void TakePages(int fd)
    {
        // One page of each huge one first, so that there is something to collapse. Where the kernel will not, or is older than 6.1, pages are small.
        long huge = Bytes & -HugePage;
        for (long offset = 0; offset < huge; offset += HugePage) TakePages(fd, offset, 1);
        if (huge > 0) _ = Libc.madvise(Address, (nuint)huge, Libc.MADV_COLLAPSE);
        TakePages(fd, 0, Bytes);
    }

    private void TakePages(int fd, long offset, long bytes)
    {
        int error = Libc.posix_fallocate(fd, offset, bytes);
        if (error != 0)
            throw new TransportException("posix_fallocate", error, $"No room for an arena of {Bytes} bytes: lower ExpertBufferOptions.MemoryBudget, or raise the memory limit.");
    }

    private static SafeFileHandle CreateFile()
    {
        ReadOnlySpan<byte> name = "switchyard-arena\0"u8;
        fixed (byte* text = name)
        {
            int fd = Libc.memfd_create(text, Libc.MFD_CLOEXEC | Libc.MFD_ALLOW_SEALING);
            return fd < 0 ? throw Failed("memfd_create", 0) : new SafeFileHandle(fd, ownsHandle: true);
        }
    }

    private static TransportException Failed(string call, long bytes) =>
        new(call, Marshal.GetLastPInvokeError(), $"Cannot share an arena of {bytes} bytes.");
}

using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>
/// A memfd mapped into this process. Its pages exist from the start, so that no later access can fail for want of memory, and it is sealed against
/// shrinking and growing, so that no peer can take them away.
/// </summary>
internal sealed unsafe class SharedMemory : ArenaMemory
{
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
        try
        {
            int fd = (int)descriptor.DangerousGetHandle();
            int error = Libc.posix_fallocate(fd, 0, bytes);
            if (error != 0)
                throw new TransportException("posix_fallocate", error, $"No room for an arena of {bytes} bytes: lower ExpertBufferOptions.MemoryBudget, or raise the memory limit.");
            if (Libc.fcntl(fd, Libc.F_ADD_SEALS, Libc.F_SEAL_SHRINK | Libc.F_SEAL_GROW | Libc.F_SEAL_SEAL) != 0)
                throw Failed("fcntl(F_ADD_SEALS)", bytes);
            return Map(descriptor, bytes);
        }
        catch
        {
            descriptor.Dispose();
            throw;
        }
    }

    /// <summary>Maps a memfd. The mapping outlives the descriptor.</summary>
    public static SharedMemory Map(SafeFileHandle descriptor, long bytes)
    {
        nint address = Libc.mmap(0, (nuint)bytes, Libc.PROT_READ_WRITE, Libc.MAP_SHARED, (int)descriptor.DangerousGetHandle(), 0);
        return address == Libc.MAP_FAILED ? throw Failed("mmap", bytes) : new SharedMemory(descriptor, address, bytes);
    }

    public override void Read(long offset, Span<byte> bytes) => new ReadOnlySpan<byte>((byte*)Address + offset, bytes.Length).CopyTo(bytes);

    public override void Write(long offset, ReadOnlySpan<byte> bytes) => bytes.CopyTo(new Span<byte>((byte*)Address + offset, bytes.Length));

    protected override void Unmap()
    {
        _ = Libc.munmap(Address, (nuint)Bytes);
        Descriptor.Dispose();
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

using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

internal enum SendResult
{
    Sent,
    Full,
    Closed,
}

/// <summary>
/// A non-blocking Unix socket that keeps packets whole (SOCK_SEQPACKET) and can pass descriptors. Not thread-safe.
/// </summary>
internal sealed unsafe class PacketSocket : IDisposable
{
    /// <summary>More descriptors than any frame carries; the kernel closes what does not fit.</summary>
    private const int MaxDescriptors = 4;

    private const int Kind = Libc.SOCK_SEQPACKET | Libc.SOCK_NONBLOCK | Libc.SOCK_CLOEXEC;
    private readonly SafeFileHandle _handle;

    public PacketSocket(SafeFileHandle handle) => _handle = handle;

    private PacketSocket(int descriptor) => _handle = new SafeFileHandle(descriptor, ownsHandle: true);

    public int Descriptor => (int)_handle.DangerousGetHandle();

    public static (PacketSocket One, PacketSocket Other) CreatePair()
    {
        int* pair = stackalloc int[2];
        if (Libc.socketpair(Libc.AF_UNIX, Kind, 0, pair) < 0) throw Failed("socketpair");
        return (new PacketSocket(pair[0]), new PacketSocket(pair[1]));
    }

    public static PacketSocket Listen(string path, int backlog)
    {
        var socket = Create();
        SockaddrUn address = Address(path);
        if (Libc.bind(socket.Descriptor, &address, (uint)sizeof(SockaddrUn)) == 0 && Libc.listen(socket.Descriptor, backlog) == 0)
            return socket;
        TransportException error = Failed("bind");
        socket.Dispose();
        throw error;
    }

    /// <summary>Returns null where nobody listens, or where the listener's queue is full.</summary>
    public static PacketSocket? TryConnect(string path)
    {
        var socket = Create();
        SockaddrUn address = Address(path);
        if (Libc.connect(socket.Descriptor, &address, (uint)sizeof(SockaddrUn)) == 0) return socket;
        int error = Marshal.GetLastPInvokeError();
        socket.Dispose();
        return error is Libc.ENOENT or Libc.ECONNREFUSED or Libc.EAGAIN or Libc.EINTR
            ? null
            : throw new TransportException("connect", error, $"Cannot reach the job's socket '{path}'.");
    }

    /// <summary>Returns null where nobody waits.</summary>
    public PacketSocket? TryAccept()
    {
        int fd = Libc.accept4(Descriptor, null, null, Libc.SOCK_NONBLOCK | Libc.SOCK_CLOEXEC);
        return fd < 0 ? null : new PacketSocket(fd);
    }

    /// <summary>Who made the other end, as the kernel knows it.</summary>
    public Ucred PeerCredentials()
    {
        Ucred credentials;
        uint length = (uint)sizeof(Ucred);
        if (Libc.getsockopt(Descriptor, Libc.SOL_SOCKET, Libc.SO_PEERCRED, &credentials, &length) < 0) throw Failed("getsockopt");
        return credentials;
    }

    /// <summary>
    /// A descriptor of the process that made the other end; null where it is gone or cannot be had. It is right also for a process that has another
    /// number here, or none, as those of other containers.
    /// </summary>
    public SafeFileHandle? OpenPeerProcess()
    {
        int fd;
        uint length = sizeof(int);
        if (Libc.getsockopt(Descriptor, Libc.SOL_SOCKET, Libc.SO_PEERPIDFD, &fd, &length) == 0) return new SafeFileHandle(fd, ownsHandle: true);
        // Linux before 6.5 goes by the number.
        return Marshal.GetLastPInvokeError() == Libc.ENOPROTOOPT ? JoinConnection.OpenProcess(PeerCredentials().ProcessId) : null;
    }

    /// <summary>Lets more be sent before the peer reads. The kernel grants what it allows.</summary>
    public void MakeRoom()
    {
        int bytes = 1 << 20;
        _ = Libc.setsockopt(Descriptor, Libc.SOL_SOCKET, Libc.SO_SNDBUF, &bytes, sizeof(int));
    }

    public SendResult Send(ReadOnlySpan<byte> head, ReadOnlySpan<byte> body = default, ReadOnlySpan<int> descriptors = default)
    {
        fixed (byte* headStart = head, bodyStart = body)
        {
            Iovec* parts = stackalloc Iovec[2];
            parts[0] = new Iovec { Base = headStart, Length = (nuint)head.Length };
            parts[1] = new Iovec { Base = bodyStart, Length = (nuint)body.Length };
            byte* control = stackalloc byte[ControlBytes(MaxDescriptors)];
            var message = new Msghdr { Iov = parts, IovCount = body.IsEmpty ? 1u : 2u };
            if (!descriptors.IsEmpty) Attach(&message, control, descriptors);
            return Send(&message);
        }
    }

    /// <summary>
    /// Receives one packet. Returns its length, 0 where the other end is closed and all it sent is read, -1 where nothing is there
    /// yet, and int.MaxValue for a packet that is longer than the buffer or carries too many descriptors.
    /// </summary>
    /// <param name="buffer">Receives the bytes.</param>
    /// <param name="descriptors">Receives the descriptors; they are the caller's to dispose, whatever is returned.</param>
    public int Receive(Span<byte> buffer, List<SafeFileHandle> descriptors)
    {
        byte* control = stackalloc byte[ControlBytes(MaxDescriptors)];
        fixed (byte* start = buffer)
        {
            var part = new Iovec { Base = start, Length = (nuint)buffer.Length };
            Msghdr message;
            nint length;
            int error;
            do
            {
                message = new Msghdr { Iov = &part, IovCount = 1, Control = control, ControlLength = (nuint)ControlBytes(MaxDescriptors) };
                length = Libc.recvmsg(Descriptor, &message, Libc.MSG_DONTWAIT | Libc.MSG_CMSG_CLOEXEC);
                error = length < 0 ? Marshal.GetLastPInvokeError() : 0;
            }
            // A peer that closes with our packets unread resets the connection. The kernel says so once, ahead of what the peer
            // had sent before; that must still be read, as its goodbye may be in it.
            while (error is Libc.EINTR or Libc.ECONNRESET);

            if (length < 0) return error == Libc.EAGAIN ? -1 : 0;
            Detach(&message, descriptors);
            return (message.Flags & (Libc.MSG_TRUNC | Libc.MSG_CTRUNC)) != 0 ? int.MaxValue : (int)length;
        }
    }

    /// <summary>The same connection for asynchronous use, which takes over the descriptor.</summary>
    public Socket IntoSocket()
    {
        var descriptor = new SafeSocketHandle(Descriptor, ownsHandle: true);
        _handle.SetHandleAsInvalid();
        return new Socket(descriptor);
    }

    public void Dispose() => _handle.Dispose();

    private static PacketSocket Create()
    {
        int fd = Libc.socket(Libc.AF_UNIX, Kind, 0);
        return fd < 0 ? throw Failed("socket") : new PacketSocket(fd);
    }

    private static SockaddrUn Address(string path)
    {
        SockaddrUn address = default;
        address.Family = Libc.AF_UNIX;
        Encoding.UTF8.GetBytes(path, new Span<byte>(address.Path, SockaddrUn.PathBytes - 1));
        return address;
    }

    private SendResult Send(Msghdr* message)
    {
        while (Libc.sendmsg(Descriptor, message, Libc.MSG_DONTWAIT | Libc.MSG_NOSIGNAL) < 0)
        {
            int error = Marshal.GetLastPInvokeError();
            if (error == Libc.EAGAIN) return SendResult.Full;
            if (error != Libc.EINTR) return SendResult.Closed;
        }
        return SendResult.Sent;
    }

    private static int ControlBytes(int descriptors) => sizeof(Cmsghdr) + ((descriptors * sizeof(int)) + 7 & ~7);

    private static void Attach(Msghdr* message, byte* control, ReadOnlySpan<int> descriptors)
    {
        var header = (Cmsghdr*)control;
        header->Level = Libc.SOL_SOCKET;
        header->Type = Libc.SCM_RIGHTS;
        header->Length = (nuint)(sizeof(Cmsghdr) + (descriptors.Length * sizeof(int)));
        descriptors.CopyTo(new Span<int>(header + 1, MaxDescriptors));
        message->Control = control;
        message->ControlLength = (nuint)ControlBytes(descriptors.Length);
    }

    private static void Detach(Msghdr* message, List<SafeFileHandle> descriptors)
    {
        var header = (Cmsghdr*)message->Control;
        if (message->ControlLength < (nuint)sizeof(Cmsghdr) || header->Level != Libc.SOL_SOCKET || header->Type != Libc.SCM_RIGHTS) return;
        int count = ((int)header->Length - sizeof(Cmsghdr)) / sizeof(int);
        foreach (int fd in new ReadOnlySpan<int>(header + 1, count)) descriptors.Add(new SafeFileHandle(fd, ownsHandle: true));
    }

    private static TransportException Failed(string call) =>
        new(call, Marshal.GetLastPInvokeError(), "Cannot make a control connection; too few descriptors are raised with 'ulimit -n'.");
}

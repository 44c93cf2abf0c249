using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>Wakes a thread that polls.</summary>
internal sealed unsafe class WakeEvent : IDisposable
{
    private readonly SafeFileHandle _handle;

    public WakeEvent()
    {
        int fd = Libc.eventfd(0, Libc.EFD_NONBLOCK | Libc.EFD_CLOEXEC);
        if (fd < 0) throw new TransportException("eventfd", Marshal.GetLastPInvokeError(), "Cannot make the control thread's event.");
        _handle = new SafeFileHandle(fd, ownsHandle: true);
    }

    public int Descriptor => (int)_handle.DangerousGetHandle();

    public void Set()
    {
        ulong one = 1;
        _ = Libc.write(Descriptor, &one, sizeof(ulong));
    }

    public void Reset()
    {
        ulong count;
        _ = Libc.read(Descriptor, &count, sizeof(ulong));
    }

    public void Dispose() => _handle.Dispose();
}

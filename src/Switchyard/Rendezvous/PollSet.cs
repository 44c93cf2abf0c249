using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>The descriptors that a thread waits for. Rebuilt before each wait; not thread-safe.</summary>
internal sealed class PollSet
{
    private Pollfd[] _entries = new Pollfd[8];
    private int _count;

    public void Clear() => _count = 0;

    /// <summary>Adds a descriptor and returns its index; hang-ups are always waited for.</summary>
    public int Add(int descriptor, short events)
    {
        if (_count == _entries.Length) Array.Resize(ref _entries, 2 * _count);
        _entries[_count] = new Pollfd { Descriptor = descriptor, Events = events };
        return _count++;
    }

    /// <summary>Waits until a descriptor is ready or the time is over. May return early.</summary>
    public unsafe void Wait(int timeoutMs)
    {
        fixed (Pollfd* entries = _entries)
        {
            if (Libc.poll(entries, (nuint)_count, timeoutMs) >= 0) return;
            for (int i = 0; i < _count; i++) entries[i].Returned = 0;
        }
    }

    /// <summary>Whether anything happened there, a hang-up or an error included.</summary>
    public bool IsReady(int index) => _entries[index].Returned != 0;

    public static bool IsReadable(int descriptor, int timeoutMs)
    {
        var one = new PollSet();
        one.Add(descriptor, Libc.POLLIN);
        one.Wait(timeoutMs);
        return one.IsReady(0);
    }
}

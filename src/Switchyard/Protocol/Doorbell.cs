using Switchyard.Interop;

namespace Switchyard.Protocol;

/// <summary>
/// How a rank sleeps and is woken, over two words of its arena. The sleeper reads the bell, marks itself, fences, looks at what it waits
/// for once more, and sleeps in the kernel while the bell is what it read. Who writes something it may wait for fences, and rings if the mark is
/// there. The two fences pair: without either, the writer can miss the mark while the sleeper misses the write.
/// </summary>
internal readonly unsafe struct Doorbell(nint bell, nint sleeper)
{
    private readonly uint* _bell = (uint*)bell;
    private readonly uint* _sleeper = (uint*)sleeper;

    /// <summary>Marks the caller as about to sleep. What it waits for must be checked after this and before <see cref="Sleep"/>.</summary>
    public uint Prepare()
    {
        uint seen = Volatile.Read(ref *_bell);
        Volatile.Write(ref *_sleeper, 1);
        Interlocked.MemoryBarrier();
        return seen;
    }

    /// <summary>Whether the owner sleeps, or is about to.</summary>
    public bool IsMarked => Volatile.Read(ref *_sleeper) != 0;

    /// <summary>Sleeps until the bell has rung since <see cref="Prepare"/>, or the time is over.</summary>
    public void Sleep(uint seen, TimeSpan timeout)
    {
        var limit = new Timespec { Seconds = timeout.Ticks / TimeSpan.TicksPerSecond, Nanoseconds = timeout.Ticks % TimeSpan.TicksPerSecond * 100 };
        Libc.futex_wait(_bell, seen, &limit);
        Awake();
    }

    public void Awake() => Volatile.Write(ref *_sleeper, 0);

    /// <summary>Wakes the owner if it sleeps. The caller has fenced since it wrote what the owner may wait for.</summary>
    public void RingIfSleeping()
    {
        if (IsMarked) Ring();
    }

    public void Ring()
    {
        Interlocked.Increment(ref *_bell);
        Libc.futex_wake_all(_bell);
    }
}

using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Interop;
using Switchyard.Topology;

namespace Switchyard.Cpu;

/// <summary>Work on items that threads can share out as they like: any split gives the same result.</summary>
internal interface ICrewJob
{
    /// <summary>Does items [<paramref name="first"/>, <paramref name="end"/>). Runs on several threads at once, on ranges that do not overlap.</summary>
    void Run(int first, int end);
}

/// <summary>
/// The threads that move a rank's rows: the caller's and those kept here. They take pieces of a job until none is left, so that one which the
/// machine slows down takes fewer, and one that comes late none. Between jobs they poll briefly, then sleep.
/// </summary>
internal sealed unsafe class WorkerCrew : IDisposable
{
    /// <summary>Some 20 µs: long enough that the next phase of the same call finds the threads awake.</summary>
    private const int PollsBeforeSleep = 500;

    /// <summary>In <see cref="_members"/>: nobody may join any more.</summary>
    private const int Closed = int.MinValue;

    private readonly Thread[] _threads;

    /// <summary>The number of the job, on which threads sleep in the kernel; a line on, how many sleep or are about to.</summary>
    private readonly uint* _jobNumber;
    private readonly int* _sleepers;
    private ICrewJob? _job;
    private int _items;
    private int _itemsAPiece;
    private int _next;

    /// <summary>Threads that are at the job beside the caller's.</summary>
    private int _members = Closed;
    private volatile bool _isDisposed;

    /// <param name="threads">All threads, the caller's included.</param>
    /// <param name="affinity">Processors to bind the others to in turn; null for none.</param>
    public WorkerCrew(int threads, IReadOnlyList<int>? affinity)
    {
        void* words = NativeMemory.AlignedAlloc(2 * ArenaLayout.LineBytes, ArenaLayout.LineBytes);
        NativeMemory.Clear(words, 2 * ArenaLayout.LineBytes);
        _jobNumber = (uint*)words;
        _sleepers = (int*)((byte*)words + ArenaLayout.LineBytes);
        _threads = new Thread[threads - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int? processor = affinity?[i % affinity.Count];
            _threads[i] = new Thread(() => Work(processor)) { IsBackground = true, Name = $"switchyard worker {i + 1}" };
            _threads[i].Start();
        }
    }

    /// <summary>Does a job; returns when it is done and all it wrote is visible to the caller.</summary>
    /// <param name="job">The job.</param>
    /// <param name="items">Its items.</param>
    /// <param name="itemsAPiece">Items that a thread takes at a time, worth the hand-over; a job of no more is the caller's alone.</param>
    public void Run(ICrewJob job, int items, int itemsAPiece)
    {
        if (_threads.Length == 0 || items <= itemsAPiece)
        {
            if (items > 0) job.Run(0, items);
            return;
        }
        _job = job;
        _items = items;
        _itemsAPiece = itemsAPiece;
        _next = 0;
        Volatile.Write(ref _members, 0);
        // A fence: a thread either sees the new number or is seen as a sleeper.
        Interlocked.Increment(ref *_jobNumber);
        if (Volatile.Read(ref *_sleepers) > 0) Libc.futex_wake_all(_jobNumber);
        DoPieces();
        Interlocked.Or(ref _members, Closed);
        var spin = new SpinWait();
        while (Volatile.Read(ref _members) != Closed) spin.SpinOnce(sleep1Threshold: -1);
    }

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        Interlocked.Increment(ref *_jobNumber);
        Libc.futex_wake_all(_jobNumber);
        foreach (Thread thread in _threads) thread.Join();
        NativeMemory.AlignedFree(_jobNumber);
    }

    private void Work(int? processor)
    {
        if (processor is { } number) ProcessorAffinity.Bind("a worker thread (ExpertBufferOptions.CpuAffinity)", number);
        uint seen = 0;
        while (true)
        {
            seen = AwaitJobAfter(seen);
            if (_isDisposed) return;
            if (!TryJoin()) continue;
            DoPieces();
            Interlocked.Decrement(ref _members);
        }
    }

    private uint AwaitJobAfter(uint seen)
    {
        for (int poll = 0; poll < PollsBeforeSleep; poll++)
        {
            uint number = Volatile.Read(ref *_jobNumber);
            if (number != seen) return number;
            Thread.SpinWait(8);
        }
        Interlocked.Increment(ref *_sleepers);
        while (Volatile.Read(ref *_jobNumber) == seen) Libc.futex_wait(_jobNumber, seen, null);
        Interlocked.Decrement(ref *_sleepers);
        return Volatile.Read(ref *_jobNumber);
    }

    private bool TryJoin()
    {
        int members;
        do
        {
            members = Volatile.Read(ref _members);
            if (members < 0) return false;
        }
        while (Interlocked.CompareExchange(ref _members, members + 1, members) != members);
        return true;
    }

    private void DoPieces()
    {
        ICrewJob job = _job!;
        while (true)
        {
            int first = Interlocked.Add(ref _next, _itemsAPiece) - _itemsAPiece;
            if (first >= _items) return;
            job.Run(first, Math.Min(_items, first + _itemsAPiece));
        }
    }
}

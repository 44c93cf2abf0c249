using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Switchyard.Litmus;

/// <summary>Two sides that run at the same time, round after round.</summary>
internal interface IRace
{
    /// <summary>One thread's part of a round.</summary>
    void Write(long round);

    /// <summary>The other thread's part.</summary>
    void Read(long round);

    /// <summary>After both: whether the outcome is forbidden.</summary>
    bool IsForbidden(long round);
}

/// <summary>Starts both sides of each round as close together as can be, at changing offsets.</summary>
internal static class RaceRunner
{
    private static long _writerAt;
    private static long _readerAt;
    private static bool _stop;

    public static (long Rounds, long Forbidden) Run(IRace race, TimeSpan limit, bool stopAtFirst)
    {
        _writerAt = _readerAt = 0;
        _stop = false;
        var writer = new Thread(() => WriterLoop(race)) { IsBackground = true };
        writer.Start();
        var clock = Stopwatch.StartNew();
        long round = 0, forbidden = 0;
        while (clock.Elapsed < limit && !(stopAtFirst && forbidden > 0))
        {
            round++;
            Volatile.Write(ref _readerAt, round);
            Offset(round * 7);
            race.Read(round);
            while (Volatile.Read(ref _writerAt) != round)
            {
            }
            if (race.IsForbidden(round)) forbidden++;
        }
        Volatile.Write(ref _stop, true);
        writer.Join();
        return (round, forbidden);
    }

    private static void WriterLoop(IRace race)
    {
        for (long round = 1; ; round++)
        {
            while (Volatile.Read(ref _readerAt) != round)
            {
                if (Volatile.Read(ref _stop)) return;
            }
            Offset(round * 13);
            race.Write(round);
            Volatile.Write(ref _writerAt, round);
        }
    }

    /// <summary>Wastes a little time that differs from round to round.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Offset(long seed)
    {
        for (long i = seed % 61; i > 0; i--) Volatile.Read(ref _stop);
    }
}

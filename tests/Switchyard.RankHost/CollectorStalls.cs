using System.Diagnostics;
using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>
/// Steps while the last rank's collector compacts a large live heap again and again, which stops its threads: nobody may take that for more than
/// slowness. Rank 0 prints the tail of the steps' times.
/// </summary>
internal static class CollectorStalls
{
    public const string Name = "collector-stalls";

    private const int ObjectBytes = 64 << 10; // below the large object heap's limit: these are moved

    public static async Task RunAsync(RankContext rank)
    {
        using Steps steps = await Steps.CreateAsync(rank);
        int count = Soak.Times(500, 10_000);
        bool isStalled = rank.Rank == rank.Group.Size - 1;
        byte[][] live = isStalled ? NewHeap(Soak.Times(256, 2048)) : [];
        using var stop = new CancellationTokenSource();
        var collector = new Thread(() => Collect(live, stop.Token)) { IsBackground = true };
        if (isStalled) collector.Start();
        var times = new double[count];
        for (int step = 0; step < count; step++)
        {
            long start = Stopwatch.GetTimestamp();
            steps.Run(step);
            times[step] = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }
        stop.Cancel();
        if (isStalled) collector.Join();
        Array.Sort(times);
        if (rank.Rank == 0) Console.WriteLine(FormattableString.Invariant($"steps {count}, ms: median {times[count / 2]:0.000}, 99 % {times[count * 99 / 100]:0.0}, longest {times[^1]:0.0}"));
        else if (isStalled) Console.WriteLine($"collections {GC.CollectionCount(2)}");
        await rank.Group.BarrierAsync();
    }

    private static byte[][] NewHeap(int megabytes) => [.. Enumerable.Range(0, megabytes * ((1 << 20) / ObjectBytes)).Select(_ => new byte[ObjectBytes])];

    /// <summary>Every other object is replaced, so that there is something to compact.</summary>
    private static void Collect(byte[][] live, CancellationToken stop)
    {
        for (int round = 0; !stop.IsCancellationRequested; round++)
        {
            for (int i = round % 2; i < live.Length; i += 16) live[i] = new byte[ObjectBytes];
            GC.Collect(2, GCCollectionMode.Forced, blocking: true, compacting: true);
        }
    }
}

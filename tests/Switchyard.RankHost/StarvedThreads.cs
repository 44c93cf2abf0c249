using System.Runtime.InteropServices;
using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Steps while the thread pool is taken up, and then with the least priority beside threads that take every core: slow, and right.</summary>
internal static partial class StarvedThreads
{
    public const string Name = "starved-threads";

    private const int PoolThreads = 32;
    private const int LeastPriority = 19;

    public static async Task RunAsync(RankContext rank)
    {
        using Steps steps = await Steps.CreateAsync(rank);
        await rank.Group.BarrierAsync();
        await Task.Factory.StartNew(() => Starve(steps), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        await rank.Group.BarrierAsync();
    }

    private static void Starve(Steps steps)
    {
        using var release = new ManualResetEventSlim();
        ThreadPool.SetMinThreads(PoolThreads, PoolThreads);
        ThreadPool.SetMaxThreads(PoolThreads, PoolThreads);
        Task[] taken = [.. Enumerable.Range(0, 4 * PoolThreads).Select(_ => Task.Run(release.Wait))];
        int count = Soak.Times(200, 10_000), step = 0;
        for (; step < count; step++) steps.Run(step);
        release.Set();
        Task.WaitAll(taken);

        bool stop = false;
        Thread[] hogs = [.. Enumerable.Range(0, Environment.ProcessorCount).Select(_ => new Thread(() => Spin(ref stop)) { IsBackground = true })];
        Array.ForEach(hogs, hog => hog.Start());
        // Of this thread alone; it does not come back to the pool.
        if (SetPriority(0, 0, LeastPriority) != 0) throw new InvalidOperationException("setpriority failed");
        for (count += Soak.Times(10, 300); step < count; step++) steps.Run(step);
        Volatile.Write(ref stop, true);
        Array.ForEach(hogs, hog => hog.Join());
    }

    private static void Spin(ref bool stop)
    {
        while (!Volatile.Read(ref stop)) Thread.SpinWait(100);
    }

    [LibraryImport("libc", EntryPoint = "setpriority", SetLastError = true)]
    private static partial int SetPriority(int which, uint who, int priority);
}

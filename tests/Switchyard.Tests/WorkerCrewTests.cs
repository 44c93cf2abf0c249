using System.Collections.Concurrent;
using CsCheck;
using Switchyard.Cpu;
using Switchyard.Topology;
using Xunit;

namespace Switchyard.Tests;

/// <summary>The threads that share a rank's jobs.</summary>
public class WorkerCrewTests
{
    private const int Jobs = 20_000;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void Every_item_is_done_once(int threads)
    {
        using var crew = new WorkerCrew(threads, affinity: null);
        var random = new Random(threads);
        for (int i = 0; i < Jobs; i++)
        {
            var job = new CountingJob(random.Next(40));
            crew.Run(job, job.Done.Length, random.Next(1, 8));
            Assert.All(job.Done, done => Assert.Equal(1, done));
            // Long enough now and then for the threads to fall asleep, or to be just about to.
            if (i % 50 == 0) Thread.Sleep(random.Next(2));
            else if (i % 3 == 0) Thread.SpinWait(random.Next(20_000));
        }
    }

    [Fact]
    public void A_job_of_one_piece_is_the_callers_alone()
    {
        using var crew = new WorkerCrew(3, affinity: null);
        var job = new ThreadsJob();
        crew.Run(job, items: 10, itemsAPiece: 10);
        Assert.Equal([Environment.CurrentManagedThreadId], job.Threads.Distinct());
    }

    [Fact]
    public void Threads_are_bound_in_turn_and_the_callers_is_not()
    {
        HashSet<int> before = ProcessorAffinity.Usable();
        int processor = before.Max();
        using var crew = new WorkerCrew(3, [processor]);
        var job = new ThreadsJob();
        // Pieces that last, so that each thread comes to take one.
        for (int i = 0; i < 200 && job.Threads.Distinct().Count() < 3; i++) crew.Run(job, items: 30, itemsAPiece: 1);
        Assert.Equal(3, job.Threads.Distinct().Count());
        foreach ((int thread, int[] usable) in job.Usable)
            Assert.Equal(thread == Environment.CurrentManagedThreadId ? before.Order() : [processor], usable);
        Assert.True(before.SetEquals(ProcessorAffinity.Usable()));
    }

    [Fact]
    public void Disposing_ends_the_threads_whatever_they_do() => Gen.Int[0, 30_000].Sample(spins =>
    {
        var crew = new WorkerCrew(3, affinity: null);
        crew.Run(new CountingJob(20), 20, 1);
        Thread.SpinWait(spins);
        crew.Dispose();
        crew.Dispose();
    }, iter: 200);

    private sealed class CountingJob(int items) : ICrewJob
    {
        public int[] Done { get; } = new int[items];

        public void Run(int first, int end)
        {
            for (int item = first; item < end; item++) Interlocked.Increment(ref Done[item]);
        }
    }

    private sealed class ThreadsJob : ICrewJob
    {
        public ConcurrentBag<int> Threads { get; } = [];

        public ConcurrentDictionary<int, int[]> Usable { get; } = [];

        public void Run(int first, int end)
        {
            Threads.Add(Environment.CurrentManagedThreadId);
            Usable[Environment.CurrentManagedThreadId] = [.. ProcessorAffinity.Usable().Order()];
            Thread.Sleep(1);
        }
    }
}

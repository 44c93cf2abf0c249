using System.Diagnostics;
using System.Globalization;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Ranks in real processes, killed.</summary>
public class KillTests(ITestOutputHelper output)
{
    [Fact]
    public void Survivors_name_the_killed_rank_soon()
    {
        const int Size = 4;
        using var job = new TestJob();
        foreach (int victim in new[] { 2, 0, 3 })
        {
            RankProcess[] ranks = StartAll(job, Size);
            try
            {
                string[] joined = [.. ranks.Select(rank => rank.ReadLine())];
                Assert.All(joined, line => Assert.StartsWith("joined", line, StringComparison.Ordinal));
                Thread.Sleep(50);
                long killed = Stopwatch.GetTimestamp();
                ranks[victim].Kill();
                double MillisecondsUntil(string then) =>
                    Stopwatch.GetElapsedTime(killed, long.Parse(then, CultureInfo.InvariantCulture)).TotalMilliseconds;
                foreach (RankProcess survivor in ranks.Where((_, rank) => rank != victim))
                {
                    string[] words = survivor.ReadLine().Split(' ', 6);
                    Assert.Equal(["lost", $"{victim}", $"{ranks[victim].Id}"], words[..3]);
                    double thrown = MillisecondsUntil(words[3]);
                    output.WriteLine($"[{string.Join(", ", joined)}]; killed rank {victim}: told after {MillisecondsUntil(words[4]):0.0} ms, "
                        + $"caught after {thrown:0.0} ms: {words[5]}");
                    Assert.InRange(thrown, 0, 500);
                }
            }
            finally
            {
                foreach (RankProcess rank in ranks) rank.Dispose();
            }
        }
    }

    [Fact]
    public async Task A_rank_killed_right_after_joining_is_lost_and_the_files_still_go()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 3);
        Task<ExpertGroup> one = job.JoinAsync(1, 3);
        using (RankProcess dying = RankProcess.Start(job, 2, 3))
        {
            Assert.StartsWith("joined", dying.ReadLine(), StringComparison.Ordinal);
        }
        ExpertGroup[] groups = await Task.WhenAll(zero, one);
        PeerLostException[] errors = await Task.WhenAll(groups.Select(BarrierFails));
        Assert.All(errors, error => Assert.Equal(2, error.Peer.Rank));
        TestJob.DisposeAll(groups);
        Assert.Empty(job.Files());

        static async Task<PeerLostException> BarrierFails(ExpertGroup group) => await Assert.ThrowsAsync<PeerLostException>(async () =>
        {
            while (true) await group.BarrierAsync();
        });
    }

    private static RankProcess[] StartAll(TestJob job, int size) =>
        [.. Enumerable.Range(0, size).Select(rank => RankProcess.Start(job, rank, size))];
}

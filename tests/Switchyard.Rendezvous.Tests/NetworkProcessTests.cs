using System.Diagnostics;
using System.Globalization;
using System.Net;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Ranks in real processes, tied by TCP: killed, stopped, cut off.</summary>
public class NetworkProcessTests(ITestOutputHelper output)
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public void Survivors_on_other_machines_name_the_killed_rank_soon()
    {
        foreach (int victim in new[] { 1, 0 })
        {
            using var job = new NetworkJob();
            RankProcess[] ranks = [.. Enumerable.Range(0, 4).Select(rank => RankProcess.Start(job, rank, 4, "busy", machine: rank / 2))];
            try
            {
                Assert.All(ranks, rank => Assert.StartsWith("joined", rank.ReadLine(), StringComparison.Ordinal));
                Thread.Sleep(50);
                long killed = Stopwatch.GetTimestamp();
                ranks[victim].Kill();
                foreach (RankProcess survivor in ranks.Where((_, rank) => rank != victim)) RequireLost(survivor, [victim], killed, 0.5);
            }
            finally
            {
                foreach (RankProcess rank in ranks) rank.Dispose();
            }
        }
    }

    [Fact]
    public async Task A_process_that_leaves_and_ends_at_once_is_not_lost()
    {
        for (int i = 0; i < 5; i++)
        {
            using var job = new NetworkJob();
            Task<ExpertGroup> zero = job.JoinAsync(0, 2);
            using RankProcess one = RankProcess.Start(job, 1, 2, "leave", machine: 1);
            using ExpertGroup group = await zero;
            PeerLostException error = await Assert.ThrowsAsync<PeerLostException>(async () =>
            {
                while (true) await group.BarrierAsync(Ct);
            });
            Assert.Equal("it left the group", error.Cause);
        }
    }

    [Fact]
    public async Task A_stopped_process_is_alive_however_much_it_is_sent()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        using RankProcess one = RankProcess.Start(job, 1, 2, "busy", machine: 1);
        using ExpertGroup group = await zero;
        Assert.StartsWith("joined", one.ReadLine(), StringComparison.Ordinal);
        await group.BarrierAsync(Ct);
        one.Stop();
        Task sending = Task.Run(async () =>
        {
            // The first may find what rank 1 gave before it was stopped.
            for (int i = 0; i < 3; i++) await group.AllGatherAsync(new byte[4 << 20], Ct);
        }, Ct);
        await Task.Delay(5000, Ct);
        Assert.False(sending.IsCompleted);
        Assert.Equal(PeerState.Alive, group.Channel.StateOf(1));
        one.Continue();
        await sending.WaitAsync(TimeSpan.FromSeconds(20), Ct);
    }

    /// <summary>Two machines whose cable is cut: packets vanish, and nobody says so.</summary>
    [Theory]
    [InlineData("idle", true, true)]
    [InlineData("busy", true, true)]
    [InlineData("idle", true, false)]
    [InlineData("busy", false, true)]
    public void A_silent_drop_between_machines_is_noticed_within_3_seconds(string conduct, bool dropThere, bool dropBack)
    {
        using TwoMachines? machines = TwoMachines.TryMake(out string missing);
        Assert.SkipWhen(machines is null, $"network namespaces: {missing}");
        using var job = new NetworkJob(new IPEndPoint(TwoMachines.AddressOf(0), 4711));
        RankProcess[] ranks = [.. Enumerable.Range(0, 3).Select(
            rank => RankProcess.Start(job, rank, 3, conduct, networkNamespace: machines!.NameOf(rank / 2)))];
        try
        {
            Assert.All(ranks, rank => Assert.StartsWith("joined", rank.ReadLine(), StringComparison.Ordinal));
            Thread.Sleep(1500);
            long cut = Stopwatch.GetTimestamp();
            if (dropThere) machines!.Drop(from: 0);
            if (dropBack) machines!.Drop(from: 1);
            RequireLost(ranks[2], [0, 1], cut, 3);
            RequireLost(ranks[0], [2], cut, 3);
            RequireLost(ranks[1], [2], cut, 3);
        }
        finally
        {
            foreach (RankProcess rank in ranks) rank.Dispose();
        }
    }

    private void RequireLost(RankProcess survivor, int[] culprits, long since, double withinSeconds)
    {
        string[] words = survivor.ReadLine().Split(' ', 6);
        output.WriteLine(string.Join(' ', words));
        Assert.Equal("lost", words[0]);
        Assert.Contains(int.Parse(words[1], CultureInfo.InvariantCulture), culprits);
        Assert.InRange(Stopwatch.GetElapsedTime(since, long.Parse(words[3], CultureInfo.InvariantCulture)).TotalSeconds, 0, withinSeconds);
    }

    /// <summary>Two network namespaces with a cable between them.</summary>
    private sealed class TwoMachines : IDisposable
    {
        private readonly string[] _names = [$"switchyard-{Environment.ProcessId}-0", $"switchyard-{Environment.ProcessId}-1"];

        public static IPAddress AddressOf(int machine) => IPAddress.Parse($"10.213.{Environment.ProcessId % 250}.{machine + 1}");

        public static TwoMachines? TryMake(out string missing)
        {
            var machines = new TwoMachines();
            string[] steps =
            [
                $"netns add {machines._names[0]}", $"netns add {machines._names[1]}",
                $"-n {machines._names[0]} link add cable type veth peer name cable netns {machines._names[1]}",
                .. Enumerable.Range(0, 2).SelectMany(machine => new[]
                {
                    $"-n {machines._names[machine]} address add {AddressOf(machine)}/24 dev cable",
                    $"-n {machines._names[machine]} link set cable up",
                    $"-n {machines._names[machine]} link set lo up",
                }),
            ];
            missing = "";
            foreach (string step in steps)
            {
                if (Ip(step) is not { } fault) continue;
                missing = $"'ip {step}': {fault}";
                machines.Dispose();
                return null;
            }
            return machines;
        }

        public string NameOf(int machine) => _names[machine];

        /// <summary>From now on what a machine sends goes to an address that nobody has.</summary>
        public void Drop(int from) => Assert.Null(Ip(
            $"-n {_names[from]} neighbour replace {AddressOf(1 - from)} lladdr 02:00:00:00:00:99 dev cable nud permanent"));

        public void Dispose()
        {
            foreach (string name in _names) Ip($"netns delete {name}");
        }

        /// <summary>Null where it went well.</summary>
        private static string? Ip(string arguments)
        {
            try
            {
                using Process ip = Process.Start(new ProcessStartInfo("ip", arguments) { RedirectStandardError = true })!;
                string said = ip.StandardError.ReadToEnd();
                ip.WaitForExit();
                return ip.ExitCode == 0 ? null : said.Trim();
            }
            catch (System.ComponentModel.Win32Exception e)
            {
                return e.Message;
            }
        }
    }
}

using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Switchyard.Conformance;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>
/// Ranks that die at every step of the protocol, or stop: every survivor names the same ones in time, goes on without them, and its next steps are
/// right bit for bit.
/// </summary>
public sealed class KillPointTests(ITestOutputHelper output)
{
    private const string Scenario = "survive";
    private const int StopSignal = 19, ContinueSignal = 18;
    private static readonly TimeSpan _limit = TimeSpan.FromSeconds(60);

    /// <summary>A point of the protocol, how often it is passed before the rank dies there, and which of 4 ranks dies.</summary>
    public static readonly TheoryData<string, int, int> Points = new()
    {
        { "ShareArena", 1, 1 },
        { "MapArenas", 1, 0 },
        { "BeginCall", 15, 2 },
        { "BeginCall", 16, 3 },
        { "AnnounceToPeer", 31, 0 },
        { "AnnounceToPeer", 32, 1 },
        { "AnnounceToPeer", 36, 2 },
        { "Agree", 13, 3 },
        { "Agree", 14, 0 },
        { "PushToken", 170, 1 },
        { "SignalRowsToPeer", 26, 2 },
        { "AwaitRows", 9, 3 },
        { "CopyResult", 100, 0 },
        { "PullToken", 180, 1 },
        { "SignalDoneToPeer", 29, 2 },
        { "SignalDoneToPeer", 31, 3 },
    };

    /// <summary>Where a second rank dies while the group gets over the first, and which.</summary>
    public static readonly TheoryData<string, int> LaterPoints = new()
    {
        { "PushToken", 0 }, // with the first
        { "LostToPeer", 0 },
        { "LostToPeer", 2 },
        { "SettledToPeer", 0 },
        { "SettledToPeer", 2 },
        { "VoteToPeer", 0 },
        { "VoteToPeer", 3 },
        { "CommitToPeer", 0 },
        { "CommitToPeer", 2 },
        { "Commit", 0 },
        { "Commit", 3 },
    };

    [Theory]
    [MemberData(nameof(Points))]
    public async Task Survivors_of_a_death_at_any_step_go_on(string point, int count, int victim)
    {
        using var ranks = new RankProcesses(Scenario, 4, 1, rank => rank == victim ? [FaultPoint(point, count), Size(3)] : [Size(3)], withFaultPoints: true);
        await SurvivedAsync(ranks, [victim], maxMs: 500);
    }

    [Theory]
    [MemberData(nameof(LaterPoints))]
    public async Task Survivors_of_a_death_while_they_get_over_another_go_on(string point, int second)
    {
        const int First = 1;
        int count = point == "PushToken" ? 170 : 1;
        using var ranks = new RankProcesses(
            Scenario, 4, 1,
            rank => rank == First ? [FaultPoint("PushToken", 170), Size(2)] : rank == second ? [FaultPoint(point, count), Size(2)] : [Size(2)],
            withFaultPoints: true);
        await SurvivedAsync(ranks, [First, second], maxMs: 1000);
    }

    [Theory]
    [InlineData("JoinHello")]
    [InlineData("JoinProof")]
    public async Task A_rank_that_dies_before_it_is_admitted_only_frees_its_place(string point)
    {
        using var ranks = new RankProcesses(Scenario, 3, 1, rank => rank == 1 ? [FaultPoint(point, 1), Size(3)] : [Size(3)], withFaultPoints: true);
        await ranks[1].WaitForExitAsync(TestContext.Current.CancellationToken);
        ranks.Start(1, 3, Size(3));
        foreach (int rank in new[] { 0, 2, 3 }) await ranks.LineAsync(rank, "done", _limit);
    }

    [Fact]
    public async Task A_rank_that_dies_while_the_group_forms_is_named_to_all()
    {
        using var ranks = new RankProcesses(Scenario, 3, 1, rank => rank == 1 ? [FaultPoint("JoinReady", 1)] : [], withFaultPoints: true);
        using var cancel = new CancellationTokenSource(_limit);
        foreach (int rank in new[] { 0, 2 })
        {
            await ranks[rank].WaitForExitAsync(cancel.Token);
            Assert.Equal(1, ranks[rank].ExitCode);
            (_, string error) = await ranks.OutputOfAsync(rank);
            Assert.Contains($"Rank 1 of job 'default' (process {ranks[1].Id}) went away while the group was joining", error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_stopped_rank_is_late_then_evicted_and_learns_that_it_is_fenced()
    {
        using var ranks = new RankProcesses(Scenario, 4, 1, rank => [Size(3), ("SURVIVE_DEADLINE", rank == 2 ? "60" : "2")]);
        for (int rank = 0; rank < 4; rank++) await ranks.LineAsync(rank, "stepping", _limit);
        Assert.Equal(0, kill(ranks[2].Id, StopSignal));
        foreach (int rank in new[] { 0, 1, 3 })
        {
            await ranks.LineAsync(rank, "done", _limit);
            string[] lines = ranks.LinesOf(rank);
            string late = Assert.Single(lines, line => line.StartsWith("late", StringComparison.Ordinal));
            Assert.Equal($"{ranks[2].Id}", late.Split(' ')[3]);
            Assert.DoesNotContain(lines, line => line.StartsWith("lost", StringComparison.Ordinal));
        }
        Assert.Equal(0, kill(ranks[2].Id, ContinueSignal));
        await ranks.EndAsync(_limit);
        Assert.Contains("fenced", ranks.LinesOf(2)[^1], StringComparison.Ordinal);
        Assert.Contains("generation 2", ranks.LinesOf(2)[^1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(3, 100, 1000)]
    [InlineData(8, 5, 200)]
    [Trait(Soak.Trait, "kills")]
    public async Task Dead_ranks_are_named_and_replaced_again_and_again(int ranks, int inCi, int whole)
    {
        (string, string)[] variables = [Size(0), ("SURVIVE_GROWS", "1")];
        using var processes = new RankProcesses(Scenario, ranks, 1, _ => variables);
        var living = Enumerable.Range(0, ranks).ToList();
        var noticed = new List<double>();
        var rebuilt = new List<double>();
        (int Descriptors, int Mappings, long Kilobytes) before = default;
        int rounds = Soak.Times(inCi, whole);
        for (int round = 0; round < rounds; round++)
        {
            foreach (int each in living) await processes.LineAsync(each, "stepping", _limit, times: 1 + round - BornIn(each));
            // The first process lives on, as one rank and another: what it holds is counted.
            if (round == Math.Min(10, rounds / 2)) before = Held(processes[0].Id);
            int victim = living[1 + Random.Shared.Next(ranks - 1)];
            await Task.Delay(Random.Shared.Next(10));
            long killed = Stopwatch.GetTimestamp();
            processes[victim].Kill();
            living.Remove(victim);
            double[] took = await Task.WhenAll(living.Select(async each =>
            {
                await processes.LineAsync(each, "rebuilt", _limit, times: 1 + round - BornIn(each));
                string[] lost = WordsOf(processes, each, "lost")[^1];
                Assert.Equal($"{processes[victim].Id}", lost[3]);
                noticed.Add(Milliseconds(killed, lost[1]));
                return Milliseconds(killed, WordsOf(processes, each, "rebuilt")[^1][1]);
            }));
            rebuilt.Add(took.Max());
            Assert.InRange(noticed.Max(), 0, 500);
            Assert.InRange(rebuilt[^1], 0, 1000);
            processes.Start(ranks - 1, ranks, [("SWITCHYARD_NEWCOMER", "1"), .. variables]);
            living.Add(processes.Count - 1);
        }
        await processes.LineAsync(0, "stepping", _limit, times: rounds + 1);
        (int descriptors, int mappings, long kilobytes) = Held(processes[0].Id);
        Soak.Report($"{rounds} of {ranks} processes killed and replaced, one by one", $"culprit right {rounds} of {rounds}; SIGKILL to exception on every survivor p50 {Percentile(noticed, 50):0.0} p99 {Percentile(noticed, 99):0.0} max {noticed.Max():0.0} ms; to the new group p50 {Percentile(rebuilt, 50):0.0} max {rebuilt.Max():0.0} ms; descriptors {before.Descriptors} to {descriptors}, mappings {before.Mappings} to {mappings}, resident {before.Kilobytes / 1024} to {kilobytes / 1024} MB");
        output.WriteLine($"p50 {Percentile(noticed, 50):0.0} p99 {Percentile(noticed, 99):0.0} ms, rebuilt in {rebuilt.Max():0.0} ms at most; descriptors {before.Descriptors} to {descriptors}, mappings {before.Mappings} to {mappings}, {before.Kilobytes} to {kilobytes} KB");
        Assert.InRange(descriptors, 0, before.Descriptors + 4);
        Assert.InRange(mappings, 0, before.Mappings + 40);
        Assert.InRange(kilobytes, 0, before.Kilobytes + (64 << 10));

        int BornIn(int process) => Math.Max(0, process - ranks + 1);
    }

    [Fact]
    [Trait(Soak.Trait, "kills")]
    public async Task A_death_is_noticed_soon_however_much_memory_the_process_held()
    {
        int gigabytes = Soak.Times(inCi: 1, whole: 6);
        using var ranks = new RankProcesses(Scenario, 4, 1, rank => rank == 1 ? [Size(3), ("SURVIVE_GIGABYTES", $"{gigabytes}")] : [Size(3)]);
        for (int rank = 0; rank < 4; rank++) await ranks.LineAsync(rank, "stepping", _limit);
        Assert.InRange(Held(ranks[1].Id).Kilobytes, gigabytes << 20, long.MaxValue);
        long killed = Stopwatch.GetTimestamp();
        ranks[1].Kill();
        double slowest = 0;
        foreach (int rank in new[] { 0, 2, 3 })
        {
            await ranks.LineAsync(rank, "done", _limit);
            slowest = Math.Max(slowest, Milliseconds(killed, WordsOf(ranks, rank, "lost").Single()[1]));
        }
        Soak.Report($"SIGKILL of a process with {gigabytes} GB resident", $"to the exception on every survivor {slowest:0.0} ms");
        output.WriteLine($"{slowest:0.0} ms");
        Assert.InRange(slowest, 0, 500);
    }

    /// <summary>Checks what the survivors of a run wrote, once all have ended.</summary>
    private async Task SurvivedAsync(RankProcesses ranks, int[] victims, double maxMs)
    {
        int[] survivors = [.. Enumerable.Range(0, ranks.Count).Except(victims)];
        using var cancel = new CancellationTokenSource(_limit);
        await Task.WhenAll(Enumerable.Range(0, ranks.Count).Select(rank => ranks[rank].WaitForExitAsync(cancel.Token)));
        foreach (int rank in survivors)
        {
            (string written, string error) = await ranks.OutputOfAsync(rank);
            Assert.True(ranks[rank].ExitCode == 0, $"rank {rank}: {written}\n{error}");
        }
        foreach (int victim in victims) await ranks.OutputOfAsync(victim);
        Assert.All(victims, victim => Assert.Single(WordsOf(ranks, victim, "died")));
        string died = WordsOf(ranks, victims[0], "died")[0][1];
        string[] dead = [.. victims.Select(victim => $"{ranks[victim].Id}")];
        string living = string.Join(',', survivors.Select(rank => ranks[rank].Id));
        foreach (int rank in survivors)
        {
            string[][] losses = WordsOf(ranks, rank, "lost");
            // One that dies while the others rebuild is left out without a word.
            string[] named = [.. losses.SelectMany(words => words[3].Split(','))];
            Assert.Contains(dead[0], named);
            Assert.Subset(dead.ToHashSet(), named.ToHashSet());
            Assert.Equal(living, WordsOf(ranks, rank, "rebuilt")[^1][4]);
            double took = Milliseconds(long.Parse(died, CultureInfo.InvariantCulture), losses[0][1]);
            output.WriteLine($"rank {rank}: {took:0.0} ms after the death: {string.Join(' ', losses[0][4..])}");
            Assert.True(took < maxMs, $"rank {rank} took {took:0} ms");
        }
        // All saw the same: who was lost first, who is in the group afterwards.
        Assert.Single(survivors.Select(rank => WordsOf(ranks, rank, "lost")[0][3]).Distinct());
        Assert.Single(survivors.Select(rank => string.Join(' ', WordsOf(ranks, rank, "done")[^1][2..])).Distinct());
    }

    private static string[][] WordsOf(RankProcesses ranks, int rank, string what) =>
        [.. ranks.LinesOf(rank).Select(line => line.Split(' ')).Where(words => words[0] == what)];

    private static double Milliseconds(long from, string to) =>
        (long.Parse(to, CultureInfo.InvariantCulture) - from) * 1000.0 / Stopwatch.Frequency;

    private static (int Descriptors, int Mappings, long Kilobytes) Held(int process)
    {
        string resident = File.ReadLines($"/proc/{process}/status").First(line => line.StartsWith("VmRSS:", StringComparison.Ordinal));
        return (
            Directory.GetFiles($"/proc/{process}/fd").Length,
            File.ReadLines($"/proc/{process}/maps").Count(),
            long.Parse(resident.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture));
    }

    private static double Percentile(List<double> values, int percent) => values.Order().ElementAt((values.Count * percent / 100) - (percent == 100 ? 1 : 0));

    private static (string, string) FaultPoint(string point, int count) => ("SWITCHYARD_FAULT_POINT", $"{point}:{count}");

    private static (string, string) Size(int ranks) => ("SURVIVE_SIZE", $"{ranks}");

    [DllImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int kill(int process, int signal);
}

using System.Diagnostics;
using System.Globalization;
using Switchyard.Rendezvous;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Ranks in namespaces of their own, as containers are made of, that share a folder.</summary>
public class ContainerTests
{
    private static readonly string[] _box = ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child"];

    [Theory]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Ranks_in_different_process_namespaces_join_and_see_each_other_die(bool isZeroBoxed, bool isOneBoxed)
    {
        Require(_box);
        for (int victim = 0; victim < 2; victim++)
        {
            using var job = new TestJob();
            using RankProcess zero = RankProcess.Start(job, 0, 2, isZeroBoxed ? _box : []);
            using RankProcess one = RankProcess.Start(job, 1, 2, isOneBoxed ? _box : []);
            // Both name the same processes, and none is 0: those that rank 0 sees by the number it knows, others by their own.
            string[] joined = [zero.ReadLine(), one.ReadLine()];
            Assert.All(joined, line => Assert.StartsWith("joined ", line, StringComparison.Ordinal));
            string[] processes = [.. joined.Select(line => line.Split(' ')[2])];
            Assert.Equal(processes[0], processes[1]);
            Assert.DoesNotContain("0", processes[0].Split(','));

            long killed = Stopwatch.GetTimestamp();
            (victim == 0 ? zero : one).Kill();
            string[] words = (victim == 0 ? one : zero).ReadLine().Split(' ', 6);
            Assert.Equal(["lost", $"{victim}", processes[0].Split(',')[victim]], words[..3]);
            Assert.InRange(Stopwatch.GetElapsedTime(killed, long.Parse(words[3], CultureInfo.InvariantCulture)).TotalMilliseconds, 0, 500);
        }
    }

    [Fact]
    public void A_rank_whose_user_has_no_number_is_refused_with_the_remedy()
    {
        string[] box = ["unshare", "--user"];
        Require(box);
        using var job = new TestJob();
        using RankProcess rank = RankProcess.Start(job, 1, 2, box);
        string line = rank.ReadLine();
        Assert.StartsWith("refused This process's user has no number in its user namespace", line, StringComparison.Ordinal);
        Assert.Contains("run all ranks in one user namespace", line, StringComparison.Ordinal);
    }

    [Fact]
    public void A_rank_whose_user_is_mapped_joins()
    {
        string[] box = ["unshare", "--user", "--map-root-user", "--fork", "--kill-child"];
        Require(box);
        using var job = new TestJob();
        using RankProcess zero = RankProcess.Start(job, 0, 2), one = RankProcess.Start(job, 1, 2, box);
        Assert.All([zero.ReadLine(), one.ReadLine()], line => Assert.StartsWith("joined ", line, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(65534, false)]
    [InlineData(999, false)]
    [InlineData(1000, true)]
    [InlineData(1001, true)]
    [InlineData(1002, false)]
    public void Only_users_in_the_map_have_a_number(uint user, bool expected) =>
        Assert.Equal(expected, UserNamespace.Maps("         0     100000          1\n      1000       1000          2\n", user));

    [Fact]
    public void Without_a_namespace_of_its_own_everybody_has_one() =>
        Assert.True(UserNamespace.Maps("         0          0 4294967295\n", 65534));

    /// <summary>Skips where such namespaces cannot be made, with the reason.</summary>
    private static void Require(string[] box)
    {
        using Process trial = Process.Start(new ProcessStartInfo(box[0], [.. box[1..], "true"]) { RedirectStandardError = true })!;
        string error = trial.StandardError.ReadToEnd().Trim();
        trial.WaitForExit();
        Assert.SkipUnless(trial.ExitCode == 0, $"no namespaces can be made here: {error}");
    }
}

using System.Globalization;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>Ranks that other launchers start, with nothing of ours in their environment.</summary>
public sealed class OtherLauncherTests : IDisposable
{
    private const string Scenario = "exchange-bfloat16";

    private readonly DirectoryInfo _runtimeDirectory = Directory.CreateTempSubdirectory("switchyard-test-");

    public void Dispose() => _runtimeDirectory.Delete(recursive: true);

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Ranks_under_Open_MPI_join_and_exchange(int ranks)
    {
        RequireMpirun();
        using RankCommand job = Start(Mpirun(ranks));
        await SucceedsAsync(job);
    }

    [Fact]
    public async Task Two_jobs_under_Open_MPI_do_not_meet()
    {
        RequireMpirun();
        using RankCommand one = Start(Mpirun(2)), other = Start(Mpirun(2));
        await SucceedsAsync(one);
        await SucceedsAsync(other);
    }

    [Fact]
    public async Task Ranks_under_MPICH_join_and_exchange_though_it_tells_no_job()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/mpiexec.hydra"), "MPICH: the package mpich is missing");
        // A script between launcher and rank changes nothing.
        string[] command = ["mpiexec.hydra", "-n", "2", "sh", "-c", $"{RankCommand.ShellRank(Scenario, 1)}; exit $?"];
        using RankCommand one = Start(command), other = Start(command);
        await SucceedsAsync(one);
        await SucceedsAsync(other);
    }

    [Fact]
    public async Task Two_jobs_with_the_variables_of_torchrun_do_not_meet()
    {
        RankCommand[] ranks = [.. from port in new[] { 29500, 29501 } from rank in new[] { 0, 1 } select StartTorchRank(rank, port)];
        try
        {
            foreach (RankCommand rank in ranks) await SucceedsAsync(rank);
        }
        finally
        {
            foreach (RankCommand rank in ranks) rank.Dispose();
        }
    }

    [Fact]
    public async Task A_job_on_several_nodes_is_refused_with_what_is_needed()
    {
        using RankCommand rank = Start(RankCommand.Rank(Scenario, 1), ("RANK", "0"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2"));
        (int exitCode, _, string error) = await rank.EndAsync();
        Assert.Equal(1, exitCode);
        Assert.Contains("Start all 4 ranks on one node", error, StringComparison.Ordinal);
    }

    private static void RequireMpirun() => Assert.SkipUnless(File.Exists("/usr/bin/mpirun.openmpi"), "Open MPI: the package openmpi-bin is missing");

    private static string[] Mpirun(int ranks)
    {
        string[] asRoot = Environment.UserName == "root" ? ["--allow-run-as-root"] : [];
        return ["mpirun.openmpi", .. asRoot, "--oversubscribe", "-n", $"{ranks}", .. RankCommand.Rank(Scenario, Random.Shared.Next(1 << 20))];
    }

    private static async Task SucceedsAsync(RankCommand job)
    {
        (int exitCode, string output, string error) = await job.EndAsync();
        Assert.True(exitCode == 0, $"exit code {exitCode}: {output}{error}");
    }

    private RankCommand StartTorchRank(int rank, int port) => Start(
        RankCommand.Rank(Scenario, 1),
        ("RANK", rank.ToString(CultureInfo.InvariantCulture)), ("WORLD_SIZE", "2"), ("LOCAL_RANK", rank.ToString(CultureInfo.InvariantCulture)), ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port.ToString(CultureInfo.InvariantCulture)), ("TORCHELASTIC_RUN_ID", "none"), ("TORCHELASTIC_RESTART_COUNT", "0"));

    /// <summary>Jobs share a meeting place, as they do in a user's session.</summary>
    private RankCommand Start(string[] command, params (string Name, string Value)[] variables) =>
        RankCommand.Start(command, [.. variables, ("XDG_RUNTIME_DIR", _runtimeDirectory.FullName)]);
}

using System.Diagnostics;
using System.Text.Json;
using Switchyard.Cli.Launch;
using Xunit;

namespace Switchyard.Cli.Tests.Bench;

/// <summary>Real runs of small shapes.</summary>
public sealed class BenchRunTests : IDisposable
{
    private static readonly string[] _fields =
    [
        "backend", "mode", "ranks", "processes", "tokens", "hidden", "topK", "experts", "element", "layout", "sms", "rows", "verified",
        "dispatchUs", "combineUs", "pairUs", "copyGBps", "dispatchFractionOfCopy", "combineFractionOfCopy", "allocatedBytesPerStep",
        "device", "driver", "commit",
    ];

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("switchyard-test-");

    private string JsonFile => Path.Combine(_folder.FullName, "results.json");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData("--processes")]
    [InlineData]
    public async Task A_run_is_verified_and_has_every_field(params string[] options)
    {
        JsonElement result = Assert.Single(await ResultsAsync(
            ["--ranks", "2", "--tokens", "5", "--hidden", "24", "--top-k", "2", "--experts", "4", .. options]));
        Assert.Equal(_fields, result.EnumerateObject().Select(property => property.Name).Take(_fields.Length));
        Assert.True(result.GetProperty("verified").GetBoolean());
        Assert.Equal(options.Length > 0, result.GetProperty("processes").GetBoolean());
        Assert.Equal("cpu throughput bf16 rank", Joined(result, "backend", "mode", "element", "layout"));
        Assert.Equal(JsonValueKind.Null, result.GetProperty("sms").ValueKind);
        Assert.Equal(0, result.GetProperty("allocatedBytesPerStep").GetDouble());
        Assert.Equal(48, result.GetProperty("rowBytes").GetInt32());
        foreach (string phase in (string[])["dispatchUs", "combineUs", "pairUs"])
        {
            double median = result.GetProperty(phase).GetProperty("p50").GetDouble();
            Assert.InRange(median, 0.01, result.GetProperty(phase).GetProperty("p99").GetDouble());
        }
        foreach (string ratio in (string[])["dispatch", "combine"])
        {
            long bytes = (10 + result.GetProperty("rows").GetInt64()) * 48;
            double rate = bytes / result.GetProperty($"{ratio}Us").GetProperty("p50").GetDouble() / 1e3;
            Assert.Equal(rate, result.GetProperty($"{ratio}GBps").GetDouble(), 0.001);
            // So little may be thousands of times slower than a copy, and round to 0.
            Assert.InRange(result.GetProperty($"{ratio}FractionOfCopy").GetDouble(), 0, 10);
        }
    }

    [Fact]
    public async Task Lists_give_every_combination()
    {
        JsonElement[] results = await ResultsAsync(
            ["--ranks", "1,3", "--tokens", "3", "--hidden", "7", "--element", "half,single", "--layout", "rank,expert"]);
        Assert.Equal(8, results.Length);
        Assert.Equal(8, results.Select(result => Joined(result, "ranks", "element", "layout")).Distinct().Count());
        Assert.All(results, result => Assert.True(result.GetProperty("verified").GetBoolean()));
    }

    [Theory]
    [InlineData("fp8")]
    [InlineData("bf16-fp8")]
    public async Task Packed_rows_travel_with_scales_and_return_as_bfloat16(string element)
    {
        JsonElement result = Assert.Single(await ResultsAsync(["--tokens", "3", "--hidden", "200", "--element", element, "--workers", "2"]));
        Assert.True(result.GetProperty("verified").GetBoolean());
        Assert.Equal("200 400 2", Joined(result, "rowBytes", "resultRowBytes", "workers"));
    }

    [Theory]
    [InlineData("rank", 8, 4)]
    [InlineData("expert", 16, 8)]
    public async Task One_hot_sends_every_token_to_the_first_experts(string layout, int rows, int localRows)
    {
        JsonElement result = Assert.Single(await ResultsAsync(
            ["--routing", "one-hot", "--tokens", "4", "--hidden", "8", "--top-k", "2", "--experts", "4", "--layout", layout]));
        Assert.Equal(rows, result.GetProperty("rows").GetInt32());
        Assert.Equal(localRows, result.GetProperty("localRows").GetInt32());
    }

    [Fact]
    public async Task A_file_of_choices_is_used_again_from_its_start()
    {
        string choices = Path.Combine(_folder.FullName, "choices");
        await File.WriteAllTextAsync(choices, "0 3\n-1 -1\n2 -1\n");
        JsonElement result = Assert.Single(await ResultsAsync(
            ["--routing", $"file:{choices}", "--tokens", "4", "--hidden", "8", "--top-k", "2", "--experts", "4"]));
        // Rank 0 has lines 1, 2, 3, 1: one to each rank, none, one to rank 1, one to each. Rank 1 has lines 2, 3, 1, 2.
        Assert.Equal(5 + 3, result.GetProperty("rows").GetInt32());
        Assert.Equal(2 + 2, result.GetProperty("localRows").GetInt32());
        Assert.True(result.GetProperty("verified").GetBoolean());
    }

    [Fact]
    public async Task The_table_has_a_line_a_shape_and_short_lines()
    {
        await using Tool tool = Bench("--tokens", "1,2", "--hidden", "8", "--routing", "zipf:1.0,one-hot", "--layout", "expert");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal(4, tool.Output.Count(line => line.TrimEnd().EndsWith("yes", StringComparison.Ordinal)));
        Assert.All(tool.Output, line => Assert.InRange(line.Length, 0, 120));
        Assert.Empty(tool.Errors);
    }

    [Fact]
    public async Task Ranks_that_fail_are_heard_and_fail_the_bench()
    {
        string[] tooMuch = ["--tokens", "100000", "--hidden", "1048576", "--top-k", "1", "--experts", "1"];
        await using Tool tool = Bench([.. tooMuch, "--json", JsonFile]);
        Assert.Equal(1, await tool.ExitCodeAsync());
        Assert.Contains(tool.Errors, line => line.Contains(": TransportException: ", StringComparison.Ordinal));
        Assert.Empty(tool.Output);
        Assert.False(File.Exists(JsonFile));
    }

    [Fact]
    public async Task A_killed_rank_ends_the_run()
    {
        await using Tool tool = LongRun("--processes");
        Signal.Kill.SendToGroup((await RankPidsAsync(2))[0]);
        Assert.Equal(137, await tool.ExitCodeAsync());
        Assert.Contains("failed first: killed by SIGKILL", tool.Said[0], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(2, "--processes")]
    [InlineData(1)]
    public async Task No_rank_outlives_a_killed_tool(int processes, params string[] options)
    {
        await using Tool tool = LongRun(options);
        int[] ranks = await RankPidsAsync(processes);
        tool.Send(Signal.Kill);
        Assert.True(await ProcessTable.AllEndAsync(ranks, TimeSpan.FromSeconds(2)));
        // Nor does a file of its.
        for (int tries = 0; _folder.EnumerateFileSystemInfos().Any() && tries < 200; tries++) await Task.Delay(10);
        Assert.Empty(_folder.EnumerateFileSystemInfos());
    }

    [Fact]
    public async Task Runs_in_turn_with_mpi_give_ratios()
    {
        Assert.SkipUnless(File.Exists("/usr/lib/x86_64-linux-gnu/openmpi/include/mpi.h"), "MPI peer: the packages openmpi-bin and libopenmpi-dev are missing");
        JsonElement result = Assert.Single(await ResultsAsync(
            ["--processes", "--tokens", "8", "--hidden", "64", "--peer", "mpi", "--pairs", "2"]));
        JsonElement peer = result.GetProperty("peer"), pairs = peer.GetProperty("pairs");
        Assert.Equal("mpi", peer.GetProperty("name").GetString());
        Assert.Equal(2, pairs.GetArrayLength());
        foreach (string phase in (string[])["dispatch", "combine"])
        {
            double[] ratios = [.. pairs.EnumerateArray().Select(pair => pair.GetProperty($"{phase}Ratio").GetDouble())];
            Assert.Equal(ratios.Average(), peer.GetProperty($"{phase}Ratio").GetDouble(), 0.001);
            JsonElement first = pairs[0];
            double theirs = first.GetProperty("peer").GetProperty($"{phase}Us").GetProperty("p50").GetDouble();
            Assert.Equal(theirs / first.GetProperty($"{phase}Us").GetProperty("p50").GetDouble(), ratios[0], 0.001);
        }
    }

    [Fact]
    public async Task Missing_mpi_names_its_packages()
    {
        await using Tool tool = Tool.Start(["bench", "--processes", "--peer", "mpi"], ("PATH", _folder.FullName));
        Assert.Equal(2, await tool.ExitCodeAsync());
        Assert.Contains("install the package openmpi-bin libopenmpi-dev", Assert.Single(tool.Errors), StringComparison.Ordinal);
    }

    private static Tool Bench(params string[] options) => Tool.Start(["bench", "--repetitions", "5", "--warmup", "1", .. options]);

    private static string Joined(JsonElement result, params string[] names) =>
        string.Join(' ', names.Select(name => result.GetProperty(name).ToString()));

    private async Task<JsonElement[]> ResultsAsync(string[] options)
    {
        await using Tool tool = Bench([.. options, "--json", JsonFile]);
        int exitCode = await tool.ExitCodeAsync();
        Assert.True(exitCode == 0, string.Join('\n', tool.Errors));
        using var document = JsonDocument.Parse(await File.ReadAllTextAsync(JsonFile));
        return [.. document.RootElement.Clone().EnumerateArray()];
    }

    /// <summary>A run whose ranks leave their notes in this test's folder, by which they are found.</summary>
    private Tool LongRun(params string[] options) =>
        Tool.Start(["bench", "--tokens", "64", "--hidden", "512", "--repetitions", "1000000", .. options], ("TMPDIR", _folder.FullName), ("DOTNET_EnableDiagnostics", "0"));

    private async Task<int[]> RankPidsAsync(int count)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            int[] pids = [.. ProcessTable.Running().Where(IsRank)];
            if (pids.Length == count) return pids;
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), "the ranks do not start");
            await Task.Delay(20);
        }
    }

    /// <summary>Whether a process is a rank of this test by now, and not what starts it.</summary>
    private bool IsRank(int pid) => ProcessTable.Read($"/proc/{pid}/cmdline").Split('\0') is [var program, _, "bench-ranks", var folder, ..]
        && Path.GetFileName(program) == "dotnet" && folder.StartsWith(_folder.FullName, StringComparison.Ordinal);
}

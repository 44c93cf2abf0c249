using Switchyard.Cli.Launch;
using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class BindTests
{
    [Theory]
    // Two packages of two cores of two threads, numbered as machines do: all first threads, then all second ones.
    [InlineData(1, "0 4 1 5 2 6 3 7")]
    [InlineData(2, "0 4 1 5|2 6 3 7")]
    [InlineData(3, "0 4|1 5|2 6 3 7")]
    [InlineData(4, "0 4|1 5|2 6|3 7")]
    [InlineData(6, "0 4|0 4|1 5|2 6|2 6|3 7")]
    public void Ranks_get_whole_neighbouring_cores(int ranks, string expected) =>
        Assert.Equal(expected, Shares([0, 1, 2, 3, 4, 5, 6, 7], ranks));

    [Theory]
    // Of what the launcher may use.
    [InlineData(2, "1 5|3")]
    [InlineData(4, "1 5|1 5|3|3")]
    public void Only_the_launchers_own_are_shared_out(int ranks, string expected) => Assert.Equal(expected, Shares([5, 3, 1], ranks));

    [Fact]
    public async Task Each_rank_may_use_its_share_and_no_more()
    {
        int[][] shares = CoreShares.Of(2);
        await using Tool tool = Tool.Launch(2, "taskset -cp $$", "--bind", "core");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.All([0, 1], rank => Assert.Equal(shares[rank].Order(), AffinityOf(tool, rank)));
    }

    [Theory]
    [InlineData()]
    [InlineData("--bind", "none")]
    public async Task Without_it_all_may_use_all(params string[] options)
    {
        await using Tool tool = Tool.Launch(2, "taskset -cp $$", options);
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.All([0, 1], rank => Assert.Equal(CoreShares.Of(1)[0].Order(), AffinityOf(tool, rank)));
    }

    private static string Shares(int[] processors, int ranks)
    {
        int[][] cores = CoreShares.Cores(processors, processor => (processor % 4 / 2, processor % 4));
        return string.Join('|', CoreShares.Share(cores, ranks).Select(share => string.Join(' ', share)));
    }

    /// <summary>Of "pid 7's current affinity list: 0,2-4".</summary>
    private static IEnumerable<int> AffinityOf(Tool tool, int rank)
    {
        string line = Assert.Single(tool.Output, line => line.StartsWith($"[rank {rank}] ", StringComparison.Ordinal));
        foreach (string run in line[(line.LastIndexOf(' ') + 1)..].Split(','))
        {
            int[] ends = [.. run.Split('-').Select(int.Parse)];
            for (int processor = ends[0]; processor <= ends[^1]; processor++)
                yield return processor;
        }
    }
}

using Switchyard.Cli.Launch;
using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class OrphanTests
{
    private static readonly TimeSpan _limit = TimeSpan.FromSeconds(2);

    [Fact]
    public async Task A_killed_launcher_takes_ranks_their_children_and_the_folder_along()
    {
        await using Tool tool = Tool.Launch(4,
            "trap '' HUP INT TERM; sleep 60 & echo child $!; setsid sleep 60 & echo own-group $!; (trap '' TERM; setsid bash -c 'sleep 60 & echo grandchild $!; wait') & echo folder $SWITCHYARD_DIRECTORY; echo pid $$; while :; do sleep 1; done");
        int[] ranks = await tool.RankPidsAsync(4);
        string[] children = await Task.WhenAll(Enumerable.Range(0, 4).Select(rank => tool.LineAsync($"[rank {rank}] child ")));
        string[] grandchildren = await Task.WhenAll(Enumerable.Range(0, 4).SelectMany(rank =>
            new[] { tool.LineAsync($"[rank {rank}] own-group "), tool.LineAsync($"[rank {rank}] grandchild ") }));
        children = [.. children, .. grandchildren];
        string folder = await tool.LineAsync("[rank 0] folder ");
        Assert.All(ranks, pid => Assert.True(ProcessTable.IsAlive(pid)));
        tool.Send(Signal.Kill);
        Assert.True(await ProcessTable.AllEndAsync([.. ranks, .. children.Select(int.Parse)], _limit));
        for (int tries = 0; Directory.Exists(folder) && tries < 200; tries++)
            await Task.Delay(10, CancellationToken.None);
        Assert.False(Directory.Exists(folder));
    }

    [Theory]
    [InlineData("sleep 60")]
    [InlineData("while :; do echo more; sleep 0.01; done")]
    public async Task What_a_rank_leaves_behind_is_killed_though_it_holds_the_pipes_open(string leftover)
    {
        await using Tool tool = Tool.Launch(2, $"{leftover} & echo child $!");
        string[] children = await Task.WhenAll(tool.LineAsync("[rank 0] child "), tool.LineAsync("[rank 1] child "));
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.True(await ProcessTable.AllEndAsync(children.Select(int.Parse), _limit));
    }

    [Fact]
    public async Task What_left_its_group_and_writes_on_does_not_hold_up_the_end()
    {
        // It ends by SIGPIPE when the launcher is gone.
        await using Tool tool = Tool.Launch(1, "setsid bash -c 'while :; do echo more; sleep 0.01; done' & echo child $!");
        int child = int.Parse(await tool.LineAsync("[rank 0] child "));
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.True(await ProcessTable.AllEndAsync([child], _limit));
    }

    [Fact]
    public async Task Each_rank_leads_a_process_group_of_its_own()
    {
        await using Tool tool = Tool.Launch(2, "echo pid $$; echo group $(ps -o pgid= -p $$)");
        int[] pids = await tool.RankPidsAsync(2);
        Assert.Equal(pids[0], int.Parse(await tool.LineAsync("[rank 0] group ")));
        Assert.Equal(pids[1], int.Parse(await tool.LineAsync("[rank 1] group ")));
    }

    [Fact]
    public async Task The_ranks_parent_is_a_thread_that_stays()
    {
        // The parent-death signal comes when the thread that forked ends, and idle pool threads do end.
        await using Tool tool = Tool.Launch(1, "echo pid $$; sleep 60");
        int[] pids = await tool.RankPidsAsync(1);
        Assert.Equal("ranks' parent", ParentThread(tool.Pid, pids[0]));
        tool.Send(Signal.Terminate);
        await tool.ExitCodeAsync();
    }

    /// <summary>The name of the launcher's thread that started a rank.</summary>
    private static string? ParentThread(int launcher, int rank) => Directory.EnumerateDirectories($"/proc/{launcher}/task")
        .Where(thread => ProcessTable.Read($"{thread}/children").Split(' ').Contains($"{rank}"))
        .Select(thread => ProcessTable.Read($"{thread}/comm").Trim())
        .FirstOrDefault();
}

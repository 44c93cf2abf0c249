using System.Diagnostics;
using Switchyard.Cli.Launch;
using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class SignalTests
{
    [Theory]
    [InlineData("HUP", 1)]
    [InlineData("INT", 2)]
    [InlineData("QUIT", 3)]
    [InlineData("TERM", 15)]
    public async Task A_signal_is_passed_on_to_every_rank(string name, int number)
    {
        await using Tool tool = Tool.Launch(3, $"trap 'echo got {name}; exit 0' {name}; echo pid $$; while :; do sleep 0.05; done");
        await tool.RankPidsAsync(3);
        tool.Send(new Signal(number));
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.All([0, 1, 2], rank => Assert.Contains($"[rank {rank}] got {name}", tool.Output));
    }

    [Fact]
    public async Task Ranks_that_end_by_the_signal_give_its_exit_code()
    {
        await using Tool tool = Tool.Launch(2, "echo pid $$; sleep 30");
        await tool.RankPidsAsync(2);
        tool.Send(Signal.Terminate);
        Assert.Equal(143, await tool.ExitCodeAsync());
        Assert.Contains("switchyard: root cause: stopped by SIGTERM", tool.Said);
    }

    [Fact]
    public async Task A_rank_that_ignores_the_signal_is_killed_after_the_grace()
    {
        await using Tool tool = Tool.Launch(2, "trap '' TERM; echo pid $$; while :; do sleep 1; done");
        int[] pids = await tool.RankPidsAsync(2);
        tool.Send(Signal.Terminate);
        Assert.Equal(137, await tool.ExitCodeAsync());
        Assert.DoesNotContain(pids, ProcessTable.IsAlive);
    }

    [Fact]
    public async Task A_second_signal_kills_at_once()
    {
        await using Tool tool = Tool.Start(["launch", "-n", "2", "--grace", "60", "--", "bash", "-c",
            "trap 'echo first' INT; echo pid $$; while :; do sleep 0.05; done"]);
        await tool.RankPidsAsync(2);
        tool.Send(Signal.Interrupt);
        await tool.LineAsync("[rank 0] first");
        await tool.LineAsync("[rank 1] first");
        var clock = Stopwatch.StartNew();
        tool.Send(Signal.Interrupt);
        Assert.Equal(137, await tool.ExitCodeAsync());
        Assert.InRange(clock.Elapsed.TotalSeconds, 0, 5);
    }
}

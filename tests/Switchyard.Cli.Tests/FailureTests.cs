using System.Diagnostics;
using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class FailureTests
{
    [Fact]
    public async Task Success_says_nothing()
    {
        await using Tool tool = Tool.Launch(4, "true");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Empty(tool.Errors);
    }

    [Fact]
    public async Task The_first_failure_is_named_and_gives_the_exit_code()
    {
        await using Tool tool = Tool.Launch(3, "echo pid $$; case $SWITCHYARD_RANK in 1) sleep 0.3; exit 7;; *) sleep 0.6; exit 9;; esac");
        int[] pids = await tool.RankPidsAsync(3);
        Assert.Equal(7, await tool.ExitCodeAsync());
        Assert.Equal($"switchyard: rank 1 (pid {pids[1]}) failed first: exit code 7", tool.Said[0]);
    }

    [Fact]
    public async Task A_killed_rank_is_named_with_its_signal()
    {
        await using Tool tool = Tool.Launch(3, "echo pid $$; sleep 0.3; [ $SWITCHYARD_RANK != 2 ] || kill -KILL $$; sleep 30");
        int[] pids = await tool.RankPidsAsync(3);
        Assert.Equal(137, await tool.ExitCodeAsync());
        Assert.Equal($"switchyard: rank 2 (pid {pids[2]}) failed first: killed by SIGKILL", tool.Said[0]);
    }

    [Fact]
    public async Task Others_have_time_to_end_with_errors_of_their_own()
    {
        await using Tool tool = Tool.Start(["launch", "-n", "2", "--grace", "10", "--", "bash", "-c",
            "[ $SWITCHYARD_RANK = 0 ] && exit 4; sleep 1; echo lost my peer >&2; exit 5"]);
        Assert.Equal(4, await tool.ExitCodeAsync());
        Assert.Contains("[rank 1] lost my peer", tool.Errors);
        Assert.Contains(tool.Said, line => line.Contains("rank 1", StringComparison.Ordinal) && line.Contains("exit code 5", StringComparison.Ordinal));
        Assert.DoesNotContain(tool.Said, line => line.Contains("SIG", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_rank_that_ignores_the_end_is_killed_after_the_grace()
    {
        await using Tool tool = Tool.Launch(3,
            "case $SWITCHYARD_RANK in 0) sleep 0.3; exit 3;; 1) sleep 30;; *) trap '' TERM; while :; do sleep 1; done;; esac");
        var clock = Stopwatch.StartNew();
        Assert.Equal(3, await tool.ExitCodeAsync());
        Assert.InRange(clock.Elapsed.TotalSeconds, 1.0, 6.0);
        Assert.Contains(tool.Said, line => line.StartsWith("switchyard: SIGTERM to ranks 1, 2:", StringComparison.Ordinal));
        Assert.Contains(tool.Said, line => line.StartsWith("switchyard: SIGKILL to rank 2:", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_summary_has_the_root_cause_first_then_the_others_in_order()
    {
        await using Tool tool = Tool.Launch(3,
            "case $SWITCHYARD_RANK in 2) sleep 0.2; echo the reason >&2; exit 3;; 1) sleep 0.4; exit 5;; 0) sleep 30;; esac");
        Assert.Equal(3, await tool.ExitCodeAsync());
        string[] summary = [.. tool.Errors.SkipWhile(line => !line.StartsWith("switchyard: root cause: rank 2 ", StringComparison.Ordinal))];
        Assert.Equal(4, summary.Length);
        Assert.EndsWith("exit code 3", summary[0], StringComparison.Ordinal);
        Assert.Equal("[rank 2] the reason", summary[1]);
        Assert.Matches(@"^switchyard:   rank 1 \(pid \d+\): exit code 5, \+0\.\d+ s$", summary[2]);
        Assert.Matches(@"^switchyard:   rank 0 \(pid \d+\): killed by SIGTERM sent by switchyard, \+\d\.\d+ s$", summary[3]);
    }
}

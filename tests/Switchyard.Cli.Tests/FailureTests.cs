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

    [Theory]
    [InlineData("sleep 1; exit 0", 0)]
    [InlineData("sleep 1; exit 6", 137)]
    public async Task The_others_may_go_on_and_the_job_succeeds_if_one_of_them_does(string others, int exitCode)
    {
        await using Tool tool = Tool.Start(["launch", "-n", "3", "--keep-going", "--grace", "0.2", "--", "bash", "-c",
            $"[ $SWITCHYARD_RANK != 1 ] || kill -KILL $$; echo going on; {others}"]);
        Assert.Equal(exitCode, await tool.ExitCodeAsync());
        Assert.Equal(2, tool.Output.Count(line => line.EndsWith("going on", StringComparison.Ordinal)));
        Assert.Contains(tool.Said, line => line.Contains("root cause: rank 1", StringComparison.Ordinal) && line.Contains("SIGKILL", StringComparison.Ordinal));
        Assert.DoesNotContain(tool.Said, line => line.Contains("SIGTERM", StringComparison.Ordinal));
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
    public async Task Sixty_four_ranks_are_started_heard_and_summed_up_in_a_line()
    {
        await using Tool tool = Tool.Launch(64, "echo here; [ $SWITCHYARD_RANK = 40 ] || exec sleep 30; sleep 1; echo why >&2; exit 3");
        Assert.Equal(3, await tool.ExitCodeAsync());
        Assert.Equal(Enumerable.Range(0, 64).Select(rank => $"[rank {rank}] here").Order(), tool.Output.Order());
        string[] summary = [.. tool.Errors.SkipWhile(line => !line.StartsWith("switchyard: root cause: rank 40 ", StringComparison.Ordinal))];
        Assert.Equal(3, summary.Length);
        Assert.Equal("[rank 40] why", summary[1]);
        Assert.StartsWith("switchyard:   others: ranks 0-39, 41-63: killed by SIGTERM sent by switchyard, +", summary[2], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_kill_from_outside_is_told_from_a_want_of_memory()
    {
        await using Tool tool = Tool.Launch(2, "[ $SWITCHYARD_RANK = 0 ] || exec sleep 30; kill -KILL $$");
        Assert.Equal(137, await tool.ExitCodeAsync());
        Assert.Contains(tool.Said, line => line.EndsWith(", killed by SIGKILL from outside, not for want of memory", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("exit 255", 255, "exit code 255")]
    [InlineData("exit 126", 126, "exit code 126")]
    [InlineData("kill -PIPE $$", 141, "killed by SIGPIPE")]
    [InlineData("kill -SEGV $$", 139, "killed by SIGSEGV")]
    public async Task The_exit_code_is_the_culprits_own(string end, int exitCode, string how)
    {
        await using Tool tool = Tool.Launch(2, $"[ $SWITCHYARD_RANK = 1 ] || exec sleep 30; sleep 0.1; {end}");
        Assert.Equal(exitCode, await tool.ExitCodeAsync());
        Assert.EndsWith(how, tool.Said[0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_last_errors_are_told_though_something_still_holds_the_stream()
    {
        // What left the rank's group is not killed with it, and keeps the stream open.
        await using Tool tool = Tool.Launch(2, "[ $SWITCHYARD_RANK = 1 ] || exec sleep 30; setsid sleep 3 & echo the reason >&2; exit 3");
        Assert.Equal(3, await tool.ExitCodeAsync());
        string[] summary = [.. tool.Errors.SkipWhile(line => !line.StartsWith("switchyard: root cause: rank 1 ", StringComparison.Ordinal))];
        Assert.Equal("[rank 1] the reason", summary[1]);
    }

    [Fact]
    public async Task The_summary_has_the_root_cause_first_then_the_others_in_order()
    {
        await using Tool tool = Tool.Launch(3,
            "case $SWITCHYARD_RANK in 2) sleep 0.2; echo the reason >&2; exit 3;; 1) sleep 0.4; exit 5;; 0) sleep 30;; esac");
        Assert.Equal(3, await tool.ExitCodeAsync());
        string[] summary = [.. tool.Errors.SkipWhile(line => !line.StartsWith("switchyard: root cause: rank 2 ", StringComparison.Ordinal))];
        Assert.Equal(3, summary.Length);
        Assert.EndsWith("exit code 3", summary[0], StringComparison.Ordinal);
        Assert.Equal("[rank 2] the reason", summary[1]);
        Assert.Matches(@"^switchyard:   others: rank 1: exit code 5, \+0\.\d+ s; rank 0: killed by SIGTERM sent by switchyard, \+\d\.\d+ s$", summary[2]);
    }
}

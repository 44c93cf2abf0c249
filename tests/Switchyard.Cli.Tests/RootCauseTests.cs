using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class RootCauseTests
{
    // Written under another name and renamed, as the library does.
    private const string Note = """
        note() { printf '%b' "$1" > "$SWITCHYARD_DIRECTORY/new.$SWITCHYARD_RANK"
          mv "$SWITCHYARD_DIRECTORY/new.$SWITCHYARD_RANK" "$SWITCHYARD_DIRECTORY/$SWITCHYARD_JOB.fault.$SWITCHYARD_RANK"; }

        """;

    [Fact]
    public async Task The_blamed_rank_is_the_root_cause()
    {
        await using Tool tool = Launch(2, """
            case $SWITCHYARD_RANK in 0) note '1\npeer 1 is \033[31mgone\n'; exit 134;; 1) sleep 0.5; echo boom >&2; exit 3;; esac
            """);
        Assert.Equal(3, await tool.ExitCodeAsync());
        Assert.Matches(@"^switchyard: rank 0 \(pid \d+\) ended: killed by SIGABRT, blaming rank 1$", tool.Said[0]);
        string[] summary = Summary(tool);
        Assert.Equal(4, summary.Length);
        Assert.Matches(@"^switchyard: root cause: rank 1 \(pid \d+\), exit code 3$", summary[0]);
        Assert.Equal("[rank 1] boom", summary[1]);
        Assert.Equal("switchyard:   rank 0 ended first because it blamed rank 1: peer 1 is  [31mgone", summary[2]);
        Assert.Matches(@"^switchyard:   others: rank 0: killed by SIGABRT, -0\.\d+ s$", summary[3]);
    }

    [Fact]
    public async Task Blame_is_followed_from_rank_to_rank()
    {
        await using Tool tool = Launch(3, """
            case $SWITCHYARD_RANK in 0) note '2\nlost 2\n'; exit 4;; 2) note '1\nlost 1\n'; sleep 0.3; exit 5;; 1) sleep 0.6; exit 6;; esac
            """);
        Assert.Equal(6, await tool.ExitCodeAsync());
        string[] summary = Summary(tool);
        Assert.Matches(@"^switchyard: root cause: rank 1 \(pid \d+\), exit code 6$", summary[0]);
        Assert.Equal("switchyard:   rank 0 ended first because it blamed rank 2: lost 2", summary[1]);
        Assert.Equal("switchyard:   rank 2 blamed rank 1: lost 1", summary[2]);
    }

    [Fact]
    public async Task A_culprit_that_had_left_with_success_is_named()
    {
        await using Tool tool = Launch(2, "[ $SWITCHYARD_RANK = 1 ] && exit 0; sleep 1; note '1\\nlost 1\\n'; exit 134");
        Assert.Equal(134, await tool.ExitCodeAsync());
        Assert.Matches(@"^switchyard: root cause: rank 1 \(pid \d+\) had left with exit code 0$", Summary(tool)[0]);
    }

    [Theory]
    [InlineData("sleep 30", "killed by SIGTERM sent by switchyard")]
    [InlineData("trap '' TERM; while :; do sleep 0.1; done", "killed by SIGKILL sent by switchyard")]
    [InlineData("trap 'exit 9' TERM; while :; do sleep 0.1; done", "exit code 9")]
    public async Task A_culprit_that_still_runs_is_named_as_such(string hang, string end)
    {
        await using Tool tool = Tool.Launch(2, Note + $"if [ $SWITCHYARD_RANK = 1 ]; then {hang}; fi; sleep 0.3; note '1\\nno answer\\n'; exit 134");
        Assert.Equal(134, await tool.ExitCodeAsync());
        Assert.Matches($@"^switchyard: root cause: rank 1 \(pid \d+\) was still running and did not answer, {end}$", Summary(tool)[0]);
    }

    [Theory]
    [InlineData("note ''")]
    [InlineData("note '1'")]
    [InlineData("note 'one\\nmessage\\n'")]
    [InlineData("note '-1\\nmessage\\n'")]
    [InlineData("note '2\\nmessage\\n'")]
    [InlineData("note '0\\nmessage\\n'")]
    [InlineData("note '99999999999\\nmessage\\n'")]
    [InlineData("note \"1\\n$(printf %20000s)\\n\"")]
    [InlineData("mkdir $SWITCHYARD_DIRECTORY/$SWITCHYARD_JOB.fault.0")]
    [InlineData("mkfifo $SWITCHYARD_DIRECTORY/$SWITCHYARD_JOB.fault.0")]
    [InlineData("ln -s /dev/zero $SWITCHYARD_DIRECTORY/$SWITCHYARD_JOB.fault.0")]
    public async Task What_is_no_note_is_ignored(string malformed)
    {
        await using Tool tool = Launch(2, $"[ $SWITCHYARD_RANK = 0 ] && {{ {malformed}; exit 4; }}; sleep 0.4; exit 5");
        Assert.Equal(4, await tool.ExitCodeAsync());
        Assert.Matches(@"^switchyard: rank 0 \(pid \d+\) failed first: exit code 4$", tool.Said[0]);
        string[] summary = Summary(tool);
        Assert.Equal(2, summary.Length);
        Assert.Matches(@"^switchyard: root cause: rank 0 \(pid \d+\), exit code 4$", summary[0]);
    }

    [Fact]
    public async Task Ranks_that_blame_each_other_are_both_shown()
    {
        await using Tool tool = Launch(2, """
            case $SWITCHYARD_RANK in 0) note '1\nlost 1\n'; exit 4;; 1) sleep 0.3; note '0\nlost 0\n'; exit 5;; esac
            """);
        Assert.Equal(5, await tool.ExitCodeAsync());
        string[] summary = Summary(tool);
        Assert.Equal(4, summary.Length);
        Assert.Matches(@"^switchyard: root cause: rank 1 \(pid \d+\), exit code 5$", summary[0]);
        Assert.Equal("switchyard:   rank 0 ended first because it blamed rank 1: lost 1", summary[1]);
        Assert.Equal("switchyard:   rank 1 blamed rank 0: lost 0", summary[2]);
    }

    [Fact]
    public async Task Notes_in_a_folder_of_the_users_neither_come_from_an_earlier_job_nor_stay()
    {
        string folder = Directory.CreateTempSubdirectory("switchyard-test-").FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "night.fault.0"), "1\nlong ago\n", CancellationToken.None);
        await using Tool tool = Launch(2, "[ $SWITCHYARD_RANK = 0 ] && exit 4; sleep 0.4; note '0\\nlost 0\\n'; exit 5",
            "--job", "night", "--directory", folder);
        Assert.Equal(4, await tool.ExitCodeAsync());
        Assert.Matches(@"^switchyard: root cause: rank 0 \(pid \d+\), exit code 4$", Summary(tool)[0]);
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder));
        Directory.Delete(folder);
    }

    /// <summary>With a grace that leaves every rank to end by itself.</summary>
    private static Tool Launch(int ranks, string script, params string[] options) =>
        Tool.Start(["launch", "-n", $"{ranks}", "--grace", "10", .. options, "--", "bash", "-c", Note + script]);

    private static string[] Summary(Tool tool) =>
        [.. tool.Errors.SkipWhile(line => !line.StartsWith("switchyard: root cause: ", StringComparison.Ordinal))];
}

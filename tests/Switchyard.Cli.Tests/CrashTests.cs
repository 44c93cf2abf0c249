using Switchyard.Conformance;
using Xunit;

namespace Switchyard.Cli.Tests;

/// <summary>A rank of a formed group that ends as programs do; the others fail because of it, mostly before it has ended.</summary>
public sealed class CrashTests
{
    [Theory]
    [InlineData("crash-exception", "Unhandled exception. System.InvalidOperationException: the experts are out")]
    [InlineData("crash-fail-fast", "Process terminated.", "the experts are out")]
    public async Task A_rank_that_throws_is_the_root_cause_with_what_it_said(string scenario, params string[] words)
    {
        await using Tool tool = Tool.Start(Launch(scenario));
        Assert.Equal(134, await tool.ExitCodeAsync());
        string[] summary = Summary(tool);
        Assert.Matches(@"^switchyard: root cause: rank 1 \(pid \d+\), killed by SIGABRT$", summary[0]);
        // The first lines say what happened, whatever the depth of the stack below them.
        Assert.Equal(words.Select(line => $"[rank 1] {line}"), summary[1..(1 + words.Length)]);
        Assert.Contains(summary, line => line.StartsWith("switchyard:   others: ranks 0, 2: exit code 1", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_rank_that_the_kernel_kills_for_want_of_memory_is_named_so()
    {
        using var group = MemoryGroup.Create(500 << 20);
        await using Tool tool = Tool.StartFrom(["bash", "-c", $"{group.Enter} && exec \"$@\"", "bash"], Launch("crash-memory"));
        Assert.Equal(137, await tool.ExitCodeAsync());
        string[] summary = Summary(tool);
        Assert.Matches(@"^switchyard: root cause: rank 1 \(pid \d+\), killed by SIGKILL; meanwhile the kernel killed 1 process for want of memory: ", summary[0]);
    }

    private static string[] Launch(string scenario) =>
        ["launch", "-n", "3", "--grace", "10", "--", Path.Combine(AppContext.BaseDirectory, "Switchyard.RankHost.dll"), scenario, "1"];

    private static string[] Summary(Tool tool)
    {
        string[] summary = [.. tool.Errors.SkipWhile(line => !line.StartsWith("switchyard: root cause: ", StringComparison.Ordinal))];
        Assert.True(summary.Length > 0, string.Join('\n', tool.Errors));
        return summary;
    }
}

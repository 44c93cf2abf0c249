using System.Globalization;
using Switchyard.Conformance;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>Limits on the process that would stop a rank half-way are errors at construction that name limit and remedy.</summary>
public sealed class LimitTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("switchyard-test-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Theory]
    [InlineData("ulimit -n 150", 64, 1, "may have 150 descriptors", "'ulimit -n'")]
    // In blocks of 1 KiB; beyond it the kernel would kill.
    [InlineData("ulimit -f 8192", 1, 9, "larger than the 8388608 bytes", "'ulimit -f'")]
    // Beside the runtime's own reservations, of some 256 GiB.
    [InlineData("ulimit -v 300000000", 1, 300_000, "address space", "'ulimit -v'")]
    public async Task A_limit_of_the_process_is_named(string limit, int size, int budgetMegabytes, params string[] expected)
    {
        string error = await FailsAsync($"{limit} && exec {RankCommand.ShellRank("budget", budgetMegabytes)}", size);
        Assert.All(expected, part => Assert.Contains(part, error, StringComparison.Ordinal));
        Assert.Contains("TransportException", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ulimit -n 150")]
    [InlineData("ulimit -f 16384")]
    // Nothing is locked into memory.
    [InlineData("ulimit -l 0")]
    public Task What_fits_is_made(string limit) => SucceedsAsync($"{limit} && exec {RankCommand.ShellRank("budget", 8)}");

    [Fact]
    public async Task A_control_groups_limit_is_named()
    {
        using var group = MemoryGroup.Create(256 << 20);
        string error = await FailsAsync($"{group.Enter} && exec {RankCommand.ShellRank("budget", 260)}", 1);
        Assert.Contains("bytes that are available: lower ExpertBufferOptions.MemoryBudget, or raise the memory limit", error, StringComparison.Ordinal);
        await SucceedsAsync($"{group.Enter} && exec {RankCommand.ShellRank("budget", 60)}");
    }

    private async Task SucceedsAsync(string script)
    {
        using RankCommand rank = Start(script, 1);
        (int exitCode, string output, string error) = await rank.EndAsync();
        Assert.True(exitCode == 0, error);
        Assert.Equal("made\n", output);
    }

    private async Task<string> FailsAsync(string script, int size)
    {
        using RankCommand rank = Start(script, size);
        (int exitCode, _, string error) = await rank.EndAsync();
        Assert.True(exitCode == 1, $"exit code {exitCode}: {error}");
        return error;
    }

    private RankCommand Start(string script, int size) => RankCommand.Start(["bash", "-c", script],
        ("SWITCHYARD_RANK", "0"), ("SWITCHYARD_WORLD_SIZE", size.ToString(CultureInfo.InvariantCulture)), ("SWITCHYARD_DIRECTORY", _directory.FullName));
}

using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class UsageTests
{
    [Theory]
    [InlineData("-n is 0", "launch", "-n", "0", "--", "true")]
    [InlineData("-n is 65", "launch", "-n", "65", "--", "true")]
    [InlineData("-n", "launch", "-n", "many", "--", "true")]
    [InlineData("See 'switchyard launch --help'", "launch", "--", "true")]
    [InlineData("See 'switchyard --help'", "no-such-command")]
    [InlineData("the program is missing", "launch", "-n", "2")]
    [InlineData("put '--' before the program", "launch", "-n", "2", "true")]
    [InlineData("put '--' before the program", "launch", "-n", "2", "bash", "-c", "true")]
    [InlineData("put '--' before the program", "launch", "-n", "2", "bash", "--", "true")]
    [InlineData("no program after '--'", "launch", "-n", "2", "--")]
    [InlineData("'no-such-program' not found", "launch", "-n", "2", "--", "no-such-program")]
    [InlineData("'./no/such' not found", "launch", "-n", "2", "--", "./no/such")]
    [InlineData("'missing.dll' not found", "launch", "-n", "2", "--", "missing.dll")]
    [InlineData("'/etc/passwd' is not executable", "launch", "-n", "2", "--", "/etc/passwd")]
    [InlineData("'/etc' is a directory", "launch", "-n", "2", "--", "/etc")]
    [InlineData("--job is 'a b'", "launch", "-n", "2", "--job", "a b", "--", "true")]
    [InlineData("--token-file is '/no/such'", "launch", "-n", "2", "--token-file", "/no/such", "--", "true")]
    [InlineData("--bind is 'socket': it must be none or core", "launch", "-n", "2", "--bind", "socket", "--", "true")]
    [InlineData("--grace is -1", "launch", "-n", "2", "--grace", "-1", "--", "true")]
    public async Task A_wrong_command_is_refused_in_one_line(string expected, params string[] arguments)
    {
        await using Tool tool = Tool.Start(arguments);
        Assert.Equal(2, await tool.ExitCodeAsync());
        Assert.Contains(expected, Assert.Single(tool.Errors), StringComparison.Ordinal);
        Assert.StartsWith("switchyard: ", tool.Errors[0], StringComparison.Ordinal);
        Assert.Empty(tool.Output);
    }

    [Fact]
    public async Task Missing_setpriv_names_its_package()
    {
        string folder = Directory.CreateTempSubdirectory("switchyard-test-").FullName;
        foreach (string name in (string[])["sh", "bash", "setsid", "true"])
            File.CreateSymbolicLink(Path.Combine(folder, name), $"/usr/bin/{name}");
        await using Tool tool = Tool.Start(["launch", "-n", "2", "--", "true"], ("PATH", folder));
        Assert.Equal(2, await tool.ExitCodeAsync());
        Assert.Contains("install the package util-linux", Assert.Single(tool.Errors), StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task A_dll_runs_with_dotnet()
    {
        await using Tool tool = Tool.Start(
            ["launch", "-n", "2", "--", Path.Combine(AppContext.BaseDirectory, "Switchyard.Cli.dll"), "--version"]);
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.All(tool.Output, line => Assert.Matches(@"^\[rank [01]\] \d+\.\d+\.\d+", line));
        Assert.Equal(2, tool.Output.Count);
    }

    [Fact]
    public async Task Arguments_reach_the_program_unchanged()
    {
        await using Tool tool = Tool.Start(["launch", "-n", "1", "--", "printf", "<%s>", "-n", "--", "@x", "a b", "", "--help"]);
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal(["[rank 0] <-n><--><@x><a b><><--help>"], tool.Output);
    }

    [Theory]
    [InlineData("--help", "launch")]
    [InlineData("--version", "0.1.0")]
    public async Task Help_and_version_succeed(string option, string expected)
    {
        await using Tool tool = Tool.Start([option]);
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Contains(tool.Output, line => line.Contains(expected, StringComparison.Ordinal));
    }
}

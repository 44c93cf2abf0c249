using Switchyard.Cli.Launch;
using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class EnvironmentTests
{
    private const string ShowAll =
        "echo $SWITCHYARD_RANK,$SWITCHYARD_LOCAL_RANK,$SWITCHYARD_WORLD_SIZE,$SWITCHYARD_JOB,$SWITCHYARD_DIRECTORY,$SWITCHYARD_TOKEN_FILE";

    [Fact]
    public async Task Each_rank_gets_its_number_and_the_jobs_facts()
    {
        await using Tool tool = Tool.Launch(3, ShowAll);
        Assert.Equal(0, await tool.ExitCodeAsync());
        string[][] facts = [.. tool.Output.Order(StringComparer.Ordinal).Select(line => line.Split(','))];
        Assert.Equal(["[rank 0] 0", "[rank 1] 1", "[rank 2] 2"], facts.Select(fact => fact[0]));
        Assert.Equal(["0", "1", "2"], facts.Select(fact => fact[1]));
        Assert.All(facts, fact => Assert.Equal("3", fact[2]));
        Assert.All(facts, fact => Assert.Equal(facts[0][3..], fact[3..]));
    }

    [Fact]
    public async Task Two_jobs_differ_in_name_and_folder()
    {
        await using Tool one = Tool.Launch(1, ShowAll);
        await using Tool two = Tool.Launch(1, ShowAll);
        await one.ExitCodeAsync();
        await two.ExitCodeAsync();
        string[] first = one.Output[0].Split(','), second = two.Output[0].Split(',');
        Assert.NotEqual(first[3], second[3]);
        Assert.NotEqual(first[4], second[4]);
    }

    [Fact]
    public async Task Folder_and_token_are_private_and_end_with_the_job()
    {
        await using Tool tool = Tool.Launch(1, "echo folder $SWITCHYARD_DIRECTORY; echo token $SWITCHYARD_TOKEN_FILE; sleep 30");
        string folder = await tool.LineAsync("[rank 0] folder ");
        string tokenFile = await tool.LineAsync("[rank 0] token ");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(folder));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(tokenFile));
        Assert.Equal(folder, Path.GetDirectoryName(tokenFile));
        tool.Send(Signal.Terminate);
        await tool.ExitCodeAsync();
        Assert.False(Directory.Exists(folder));
    }

    [Fact]
    public async Task The_token_is_256_bits_and_never_shown()
    {
        await using Tool tool = Tool.Launch(2, "echo token $SWITCHYARD_TOKEN_FILE; sleep 30");
        string token = (await File.ReadAllTextAsync(await tool.LineAsync("[rank 1] token "), CancellationToken.None)).TrimEnd();
        Assert.Equal(32, Convert.FromHexString(token).Length);
        Assert.DoesNotContain(ProcessTable.CommandLines(), line => line.Contains(token, StringComparison.OrdinalIgnoreCase));
        tool.Send(Signal.Terminate);
        await tool.ExitCodeAsync();
        Assert.DoesNotContain(tool.Output.Concat(tool.Errors), line => line.Contains(token, StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task Name_folder_and_token_of_the_user_are_kept()
    {
        string folder = Directory.CreateTempSubdirectory("switchyard-test-").FullName;
        string token = Path.Combine(folder, "mine");
        await File.WriteAllTextAsync(token, "00", CancellationToken.None);
        await using Tool tool = Tool.Launch(1, ShowAll, "--job", "night.run-1", "--directory", folder, "--token-file", token);
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal([$"[rank 0] 0,0,1,night.run-1,{folder},{token}"], tool.Output);
        Assert.True(File.Exists(token));
        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData(null, "0")]
    [InlineData("1", "1")]
    public async Task Diagnostics_are_off_unless_set(string? set, string seen)
    {
        string[] arguments = ["launch", "-n", "1", "--", "bash", "-c", "echo $DOTNET_EnableDiagnostics"];
        await using Tool tool = set is null ? Tool.Start(arguments) : Tool.Start(arguments, ("DOTNET_EnableDiagnostics", set));
        await tool.ExitCodeAsync();
        Assert.Equal([$"[rank 0] {seen}"], tool.Output);
    }

    [Fact]
    public async Task The_rest_of_the_environment_is_handed_on()
    {
        await using Tool tool = Tool.Start(["launch", "-n", "1", "--", "env"], ("Some.Setting", "a b"), ("BASH_ENV", "/dev/null/none"));
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Contains("[rank 0] Some.Setting=a b", tool.Output);
        Assert.Empty(tool.Errors);
    }

    [Fact]
    public async Task Input_is_empty()
    {
        await using Tool tool = Tool.Launch(2, "read -r line || echo none");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal(2, tool.Output.Count(line => line.EndsWith("] none", StringComparison.Ordinal)));
    }
}

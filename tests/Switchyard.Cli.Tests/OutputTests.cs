using System.Diagnostics;
using Switchyard.Cli.Launch;
using Xunit;

namespace Switchyard.Cli.Tests;

public sealed class OutputTests
{
    [Fact]
    public async Task Thousands_of_lines_arrive_whole_and_in_order_on_their_own_stream()
    {
        const int Ranks = 4, Lines = 5000;
        // Short and long lines, through a pipe in pieces of dd's odd size.
        string script = $"for i in $(seq {Lines}); do printf 'line %d %0*d end\\n' $i $((i % 300 + 1)) 7; done | dd bs=777 2>/dev/null; "
            + "for i in $(seq 500); do echo error $i >&2; done";
        await using Tool tool = Tool.Launch(Ranks, script);
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal(Ranks * Lines, tool.Output.Count);
        Assert.Equal(Ranks * 500, tool.Errors.Count);
        for (int rank = 0; rank < Ranks; rank++)
        {
            Assert.Equal(Enumerable.Range(1, Lines).Select(i => $"line {i} {new string('0', i % 300)}7 end"), LinesOf(rank, tool.Output));
            Assert.Equal(Enumerable.Range(1, 500).Select(i => $"error {i}"), LinesOf(rank, tool.Errors));
        }
    }

    [Fact]
    public async Task A_last_line_without_an_end_is_printed()
    {
        await using Tool tool = Tool.Launch(2, "printf 'one\\nhalf a line'");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.All([0, 1], rank => Assert.Equal(["one", "half a line"], LinesOf(rank, tool.Output)));
    }

    [Fact]
    public async Task What_a_rank_wrote_just_before_it_was_killed_is_printed()
    {
        await using Tool tool = Tool.Launch(1, "seq 3000; echo bye; kill -KILL $$");
        Assert.Equal(137, await tool.ExitCodeAsync());
        Assert.Equal(3001, tool.Output.Count);
        Assert.Equal("[rank 0] bye", tool.Output[^1]);
    }

    [Fact]
    public async Task Without_prefix_output_is_handed_through()
    {
        await using Tool tool = Tool.Launch(1, "printf 'plain\\nhalf'; echo problem >&2", "--no-prefix");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal(["plain", "half"], tool.Output);
        Assert.Equal(["problem"], tool.Errors);
    }

    [Fact]
    public async Task A_very_long_line_is_cut_not_kept()
    {
        await using Tool tool = Tool.Launch(1, "head -c 3000000 /dev/zero | tr '\\0' x; echo");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.Equal(3_000_000, LinesOf(0, tool.Output).Sum(line => line.Length));
        Assert.InRange(tool.Output.Count, 2, 4);
    }

    [Fact]
    public async Task Redirected_output_has_no_colour()
    {
        await using Tool tool = Tool.Launch(1, "echo out; echo err >&2");
        Assert.Equal(0, await tool.ExitCodeAsync());
        Assert.DoesNotContain(tool.Output.Concat(tool.Errors), line => line.Contains('\u001b', StringComparison.Ordinal));
    }

    [Fact]
    public async Task Bytes_that_are_no_text_arrive_unchanged()
    {
        Assert.Equal("000 001 377 376 303 050 012 200", await PipedAsync("launch -n 1 --no-prefix", @"printf '\000\001\377\376\303\050\n\200'", "od -An -b"));
        // Behind a prefix, and an unfinished line gets its end.
        Assert.Equal("000 377 012 376 012", await PipedAsync("launch -n 1", @"printf '\000\377\n\376'", "sed 's/^\\[rank 0\\] //' | od -An -b"));
    }

    [Fact]
    public async Task A_reader_that_leaves_does_not_end_the_job()
    {
        Assert.Equal("[rank 0] 1 done", await PipedAsync("launch -n 1", "seq 100000; echo done >$0", "head -n 1; while [ ! -s $F ]; do sleep 0.05; done; cat $F"));
    }

    [Fact]
    public async Task A_slow_reader_loses_nothing()
    {
        Assert.Equal("200001", await PipedAsync("launch -n 1", "seq 200000; echo end; exit 3", "{ sleep 2; wc -l; }"));
    }

    [Fact]
    public async Task A_reader_that_stops_does_not_keep_a_signal_from_the_ranks()
    {
        using Process tool = Shell("exec dotnet \"$CLI\" launch -n 1 --grace 1 -- bash -c 'echo pid $$ >&2; exec yes'");
        int rank = int.Parse((await tool.StandardError.ReadLineAsync())!.Split(' ')[^1]);
        await Task.Delay(500); // until the pipe is full
        Signal.Terminate.SendToGroup(tool.Id);
        Assert.True(await ProcessTable.AllEndAsync([rank], TimeSpan.FromSeconds(5)));
        Assert.False(tool.HasExited);
        await Task.WhenAll(tool.StandardOutput.ReadToEndAsync(), tool.StandardError.ReadToEndAsync()).WaitAsync(TimeSpan.FromSeconds(20));
        await tool.WaitForExitAsync();
        Assert.Equal(143, tool.ExitCode);
    }

    /// <summary>What a pipe from the tool gives, its white space made even. The rank's script has a file as $0, which the pipe knows as $F.</summary>
    private static async Task<string> PipedAsync(string options, string script, string pipe)
    {
        string file = Path.GetTempFileName();
        using Process shell = Shell($"dotnet \"$CLI\" {options} -- bash -c \"$SCRIPT\" $F | {pipe}", ("SCRIPT", script), ("F", file));
        string output = await shell.StandardOutput.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(20));
        await shell.WaitForExitAsync();
        File.Delete(file);
        return string.Join(' ', output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
    }

    private static Process Shell(string command, params (string Name, string Value)[] variables)
    {
        var info = new ProcessStartInfo("bash", ["-c", command]) { RedirectStandardOutput = true, RedirectStandardError = true };
        info.Environment["CLI"] = Path.Combine(AppContext.BaseDirectory, "Switchyard.Cli.dll");
        foreach ((string name, string value) in variables)
            info.Environment[name] = value;
        return Process.Start(info)!;
    }

    private static IEnumerable<string> LinesOf(int rank, IEnumerable<string> lines)
    {
        string prefix = $"[rank {rank}] ";
        return lines.Where(line => line.StartsWith(prefix, StringComparison.Ordinal)).Select(line => line[prefix.Length..]);
    }
}

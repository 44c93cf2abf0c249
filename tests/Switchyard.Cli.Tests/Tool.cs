using System.Diagnostics;
using System.Runtime.Versioning;
using Switchyard.Cli.Launch;

[assembly: SupportedOSPlatform("linux")]

namespace Switchyard.Cli.Tests;

/// <summary>The built tool as a real process. Disposing kills it, by its id, if it still runs; its ranks then end with it.</summary>
internal sealed class Tool : IAsyncDisposable
{
    /// <summary>Also for a bench of many shapes, each in processes of its own, on cores that others use too.</summary>
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly Transcript _output;
    private readonly Transcript _errors;

    private Tool(Process process)
    {
        _process = process;
        _output = new Transcript(process.StandardOutput);
        _errors = new Transcript(process.StandardError);
    }

    public int Pid => _process.Id;

    public IReadOnlyList<string> Output => _output.Lines;

    public IReadOnlyList<string> Errors => _errors.Lines;

    /// <summary>What the launcher itself said.</summary>
    public IReadOnlyList<string> Said => [.. Errors.Where(line => line.StartsWith("switchyard: ", StringComparison.Ordinal))];

    public static Tool Start(string[] arguments, params (string Name, string Value)[] variables) => StartFrom([], arguments, variables);

    /// <summary>Behind words of another command, which becomes the tool.</summary>
    public static Tool StartFrom(string[] wrapper, string[] arguments, params (string Name, string Value)[] variables)
    {
        string[] command = [.. wrapper, "dotnet", Path.Combine(AppContext.BaseDirectory, "Switchyard.Cli.dll"), .. arguments];
        var info = new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach ((string name, string value) in variables)
            info.Environment[name] = value;
        return new Tool(Process.Start(info)!);
    }

    /// <summary>Launches ranks that run a bash script, with a short grace.</summary>
    public static Tool Launch(int ranks, string script, params string[] options) =>
        Start(["launch", "-n", $"{ranks}", "--grace", "0.5", .. options, "--", "bash", "-c", script]);

    /// <summary>Waits for a line of output and returns what stands behind the start given.</summary>
    public Task<string> LineAsync(string start) => _output.LineAsync(start).WaitAsync(_patience);

    /// <summary>Each rank's process id, as a script tells it by 'echo pid $$'.</summary>
    public async Task<int[]> RankPidsAsync(int ranks) =>
        [.. (await Task.WhenAll(Enumerable.Range(0, ranks).Select(rank => LineAsync($"[rank {rank}] pid ")))).Select(int.Parse)];

    public void Send(Signal signal) => signal.SendToGroup(Pid);

    public async Task<int> ExitCodeAsync()
    {
        await _process.WaitForExitAsync().WaitAsync(_patience);
        await Task.WhenAll(_output.Ended, _errors.Ended).WaitAsync(_patience);
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}

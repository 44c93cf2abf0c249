using System.Diagnostics;

namespace Switchyard.Cpu.Tests;

/// <summary>A command that starts ranks, or a rank, by other means than <see cref="RankProcesses"/>, with a meeting place of its own.</summary>
internal sealed class RankCommand : IDisposable
{
    private readonly Process _process;
    private readonly Task<string> _output;
    private readonly Task<string> _error;

    private RankCommand(Process process)
    {
        _process = process;
        _output = process.StandardOutput.ReadToEndAsync();
        _error = process.StandardError.ReadToEndAsync();
    }

    /// <summary>What starts a rank that plays a scenario.</summary>
    public static string[] Rank(string scenario, int seed) => ["dotnet", Path.Combine(AppContext.BaseDirectory, "Switchyard.RankHost.dll"), scenario, $"{seed}"];

    /// <summary>The same in the words of a shell.</summary>
    public static string ShellRank(string scenario, int seed) => string.Join(' ', Rank(scenario, seed).Select(word => $"'{word}'"));

    public static RankCommand Start(string[] command, params (string Name, string Value)[] variables)
    {
        var info = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        info.Environment["DOTNET_EnableDiagnostics"] = "0"; // a killed process would leave its diagnostics socket behind
        info.Environment["DOTNET_TieredPGO"] = "0";
        foreach ((string name, string value) in variables) info.Environment[name] = value;
        return new RankCommand(Process.Start(info)!);
    }

    /// <summary>Waits for the end.</summary>
    public async Task<(int ExitCode, string Output, string Error)> EndAsync()
    {
        await _process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(60));
        return (_process.ExitCode, await _output, await _error);
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
    }
}

using System.Diagnostics;
using System.Globalization;

namespace Switchyard.Cpu.Tests;

/// <summary>Runs a scenario with a process a rank, in a meeting place of its own.</summary>
internal sealed class RankProcesses : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("switchyard-test-");
    private readonly List<(Process Process, Task<string> Output, Task<string> Error)> _ranks = [];

    public RankProcesses(string scenario, int ranks, int seed)
    {
        for (int rank = 0; rank < ranks; rank++) Start(rank, ranks, scenario, seed);
    }

    /// <summary>How many ranks have left the file that tells of their first steps, in the scenario that does so.</summary>
    public int RanksThatStep => _directory.GetFiles("stepping.*").Length;

    /// <summary>The note that a rank left about the rank it blames: that rank, then the error's message.</summary>
    public string[] FaultNoteOf(int rank) => File.ReadAllLines(Path.Combine(_directory.FullName, $"default.fault.{rank}"));

    public Process this[int rank] => _ranks[rank].Process;

    /// <summary>What a rank wrote, once it has ended.</summary>
    public async Task<(string Output, string Error)> OutputOfAsync(int rank) => (await _ranks[rank].Output, await _ranks[rank].Error);

    /// <summary>Waits for all ranks; throws with what a failed one wrote.</summary>
    public async Task EndAsync(TimeSpan limit)
    {
        using var cancel = new CancellationTokenSource(limit);
        await Task.WhenAll(_ranks.Select(rank => rank.Process.WaitForExitAsync(cancel.Token)));
        for (int rank = 0; rank < _ranks.Count; rank++)
        {
            if (_ranks[rank].Process.ExitCode != 0)
                throw new InvalidOperationException($"rank {rank} ended with {_ranks[rank].Process.ExitCode}: {await _ranks[rank].Error}");
        }
    }

    public void Dispose()
    {
        foreach ((Process process, _, _) in _ranks)
        {
            if (!process.HasExited) process.Kill();
            process.WaitForExit();
            process.Dispose();
        }
        _directory.Delete(recursive: true);
    }

    private void Start(int rank, int ranks, string scenario, int seed)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            ArgumentList = { Path.Combine(AppContext.BaseDirectory, "Switchyard.RankHost.dll"), scenario, seed.ToString(CultureInfo.InvariantCulture) },
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment =
            {
                ["SWITCHYARD_RANK"] = rank.ToString(CultureInfo.InvariantCulture),
                ["SWITCHYARD_WORLD_SIZE"] = ranks.ToString(CultureInfo.InvariantCulture),
                ["SWITCHYARD_DIRECTORY"] = _directory.FullName,
                ["SWITCHYARD_FAULT_NOTES"] = _directory.FullName,
                // A killed .NET process leaves its diagnostics socket behind.
                ["DOTNET_EnableDiagnostics"] = "0",
                ["DOTNET_TieredPGO"] = "0",
            },
        };
        Process process = Process.Start(start)!;
        _ranks.Add((process, process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync()));
    }
}

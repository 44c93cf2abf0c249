using System.Diagnostics;
using System.Globalization;

namespace Switchyard.Cpu.Tests;

/// <summary>Runs a scenario with a process a rank, in a meeting place of its own.</summary>
internal sealed class RankProcesses : IDisposable
{
    private static readonly (string, string)[] _none = [];

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("switchyard-test-");
    private readonly List<RankProcess> _ranks = [];
    private readonly string _scenario;
    private readonly int _seed;
    private readonly string _host;

    /// <param name="scenario">What each rank runs.</param>
    /// <param name="ranks">How many.</param>
    /// <param name="seed">The same for all.</param>
    /// <param name="variables">What a rank finds in its environment besides.</param>
    /// <param name="withFaultPoints">Whether ranks can be told to die at a point of the protocol.</param>
    public RankProcesses(string scenario, int ranks, int seed, Func<int, (string Name, string Value)[]>? variables = null, bool withFaultPoints = false)
    {
        (_scenario, _seed) = (scenario, seed);
        string released = Path.Combine(AppContext.BaseDirectory, "Switchyard.RankHost.dll");
        _host = withFaultPoints ? Path.Combine(AppContext.BaseDirectory, "../../Switchyard.RankHost/faultpoints/Switchyard.RankHost.dll") : released;
        for (int rank = 0; rank < ranks; rank++) Start(rank, ranks, variables?.Invoke(rank) ?? _none);
    }

    /// <summary>How many ranks have left the file that tells of their first steps, in the scenario that does so.</summary>
    public int RanksThatStep => _directory.GetFiles("stepping.*").Length;

    /// <summary>Leaves a file where the ranks meet.</summary>
    public void Tell(string name) => File.WriteAllText(Path.Combine(_directory.FullName, name), "");

    /// <summary>The note that a rank left about the rank it blames: that rank, then the error's message.</summary>
    public string[] FaultNoteOf(int rank) => File.ReadAllLines(Path.Combine(_directory.FullName, $"default.fault.{rank}"));

    public Process this[int started] => _ranks[started].Process;

    public int Count => _ranks.Count;

    /// <summary>What a rank wrote, once it has ended.</summary>
    public async Task<(string Output, string Error)> OutputOfAsync(int started)
    {
        await _ranks[started].Reading;
        return (string.Join('\n', LinesOf(started)), await _ranks[started].Error);
    }

    /// <summary>The lines that a rank has written so far.</summary>
    public string[] LinesOf(int started)
    {
        lock (_ranks[started].Lines) return [.. _ranks[started].Lines];
    }

    /// <summary>Waits until a rank has written a line that begins so, so many times.</summary>
    public async Task LineAsync(int started, string beginning, TimeSpan limit, int times = 1)
    {
        var clock = Stopwatch.StartNew();
        while (LinesOf(started).Count(line => line.StartsWith(beginning, StringComparison.Ordinal)) < times)
        {
            if (clock.Elapsed > limit || _ranks[started].Reading.IsCompleted)
                throw new InvalidOperationException($"process {started} did not write '{beginning}': {string.Join('\n', LinesOf(started))}");
            await Task.Delay(5);
        }
    }

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
        foreach ((Process process, _, _, _) in _ranks)
        {
            if (!process.HasExited) process.Kill();
            process.WaitForExit();
            process.Dispose();
        }
        _directory.Delete(recursive: true);
    }

    /// <summary>Starts one more; its place among the processes is the next.</summary>
    public void Start(int rank, int ranks, params (string Name, string Value)[] variables)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            ArgumentList = { _host, _scenario, _seed.ToString(CultureInfo.InvariantCulture) },
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
        foreach ((string name, string value) in variables) start.Environment[name] = value;
        Process process = Process.Start(start)!;
        var lines = new List<string>();
        _ranks.Add(new RankProcess(process, lines, ReadAsync(process, lines), process.StandardError.ReadToEndAsync()));
    }

    private static async Task ReadAsync(Process process, List<string> lines)
    {
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            lock (lines) lines.Add(line);
        }
    }

    private sealed record RankProcess(Process Process, List<string> Lines, Task Reading, Task<string> Error);
}

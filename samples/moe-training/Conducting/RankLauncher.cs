using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace MoeTraining;

/// <summary>Runs a group of rank processes by <c>switchyard launch</c> and reads what rank 0 reports.</summary>
internal static partial class RankLauncher
{
    private const int TerminateSignal = 15;
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(5);

    /// <exception cref="DemoException">The ranks failed; the message has what they wrote to their error output.</exception>
    public static async Task RunAsync(string root, TrainingRun run, string corpusPath, Action<Progress> report, CancellationToken ct)
    {
        using Process process = Start(root, run, corpusPath);
        using CancellationTokenRegistration ending = ct.Register(() => Terminate(process));
        Task<string> errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            while (await process.StandardOutput.ReadLineAsync(CancellationToken.None) is { } line)
            {
                if (line.StartsWith('{')) report(JsonSerializer.Deserialize(line, ProgressJson.Default.Progress)!);
            }
            await process.WaitForExitAsync(CancellationToken.None);
        }
        finally
        {
            Kill(process);
        }
        ct.ThrowIfCancellationRequested();
        if (process.ExitCode != 0)
            throw new DemoException($"The run with {run.Name} ended with exit code {process.ExitCode}.\n{(await errors).Trim()}");
    }

    private static Process Start(string root, TrainingRun run, string corpusPath)
    {
        string[] arguments =
        [
            "launch", "-n", $"{run.Ranks}", "--no-prefix", "--",
            "dotnet", typeof(RankLauncher).Assembly.Location, "train", "--steps", $"{run.Steps}", "--corpus", corpusPath,
        ];
        var start = new ProcessStartInfo(Path.Combine(root, "switchyard"), arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception failure)
        {
            throw new DemoException($"Cannot start {start.FileName}: {failure.Message}");
        }
    }

    /// <summary>Lets the launcher end its ranks in order, and helps if it does not.</summary>
    private static void Terminate(Process process)
    {
        if (process.HasExited) return;
        _ = SendSignal(process.Id, TerminateSignal);
        _ = Task.Delay(_patience).ContinueWith(_ => Kill(process), TaskScheduler.Default);
    }

    private static void Kill(Process process)
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has ended already.
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int processId, int signal);
}

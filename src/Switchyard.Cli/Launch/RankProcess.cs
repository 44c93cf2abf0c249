using System.Diagnostics;

namespace Switchyard.Cli.Launch;

/// <summary>One rank: a process that leads a process group, and the relays of its output.</summary>
internal sealed class RankProcess : IDisposable
{
    private static readonly TimeSpan _drainTime = TimeSpan.FromMilliseconds(500);

    private readonly Process _process;
    private readonly LineRelay[] _relays;

    private RankProcess(int rank, Process process, LineRelay[] relays)
    {
        Rank = rank;
        Pid = process.Id;
        _process = process;
        _relays = relays;
    }

    public int Rank { get; }

    public int Pid { get; }

    public bool Running => !_process.HasExited;

    public string Name => $"rank {Rank} (pid {Pid})";

    /// <summary>The last lines of the error stream, if the launcher relays it.</summary>
    public IEnumerable<byte[]> LastErrors => _relays.SelectMany(relay => relay.Drained.IsCompleted ? relay.Tail : []);

    public static RankProcess Start(int rank, ProcessStartInfo info, Output output)
    {
        Process process = Process.Start(info)!;
        return new RankProcess(rank, process, info.RedirectStandardOutput
            ? [
                LineRelay.Start(process.StandardOutput.BaseStream, output, rank, toError: false),
                LineRelay.Start(process.StandardError.BaseStream, output, rank, toError: true),
            ]
            : []);
    }

    /// <summary>Lets the program begin, which then finds its input at the end.</summary>
    public void Release()
    {
        try
        {
            _process.StandardInput.WriteLine();
            _process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It was killed before it began; its exit tells.
        }
    }

    public void Send(Signal signal)
    {
        if (Running)
            signal.SendToGroup(Pid);
    }

    public async Task<int> WaitForExitAsync()
    {
        await _process.WaitForExitAsync();
        return _process.ExitCode;
    }

    /// <summary>After the exit: prints what is still in the pipes and kills what the rank left behind in its group.</summary>
    public async Task FinishAsync()
    {
        await DrainAsync();
        Signal.Kill.SendToLeftovers(Pid);
        // Again, as a leftover may have held the pipes open; bounded, as one that left the group may hold them for ever.
        await DrainAsync();
    }

    public void Dispose() => _process.Dispose();

    private async Task DrainAsync() => await Task.WhenAny(Task.WhenAll(_relays.Select(relay => relay.Drained)), Task.Delay(_drainTime));
}

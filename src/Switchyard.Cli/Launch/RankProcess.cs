using System.Diagnostics;

namespace Switchyard.Cli.Launch;

/// <summary>One rank: a process that leads a process group, and the relays of its output.</summary>
internal sealed class RankProcess : IDisposable
{
    private const int QuietLooks = 5;

    /// <summary>What a pipe can be made to hold without privileges (/proc/sys/fs/pipe-max-size), of both streams.</summary>
    private const long MaxPipeBytes = 2 << 20;

    /// <summary>What a leftover has to write its last, such as the 'tee' at the end of a pipe.</summary>
    private static readonly TimeSpan _leftoverTime = TimeSpan.FromMilliseconds(500);

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
    public IEnumerable<byte[]> LastErrors => _relays.SelectMany(relay => relay.Tail);

    private Task Drained => Task.WhenAll(_relays.Select(relay => relay.Drained));

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

    /// <summary>After the exit: kills what the rank left behind in its group, and prints what is still in the pipes.</summary>
    public async Task FinishAsync()
    {
        await Task.WhenAny(Drained, Task.Delay(_leftoverTime));
        Signal.Kill.SendToLeftovers(Pid);
        await DrainAsync();
    }

    public void Dispose() => _process.Dispose();

    /// <summary>
    /// Until all that the rank had written is. Who else holds the pipes may write on for ever: the pipes are empty once no relay has waited for the
    /// reader for a while, and more than a pipe holds was not the rank's.
    /// </summary>
    private async Task DrainAsync()
    {
        long before = _relays.Sum(relay => relay.ReadBytes);
        for (int quiet = 0; quiet < QuietLooks && !Drained.IsCompleted && _relays.Sum(relay => relay.ReadBytes) - before <= MaxPipeBytes;)
        {
            await Task.WhenAny(Drained, Task.Delay(_leftoverTime / QuietLooks));
            quiet = _relays.Any(relay => relay.IsWriting) ? 0 : quiet + 1;
        }
    }
}

using System.Diagnostics;
using System.Globalization;
using System.Threading.Channels;

namespace Switchyard.Cli.Launch;

/// <summary>
/// Waits for the ranks and, once one fails or a signal comes, brings the others to their end: time to end by themselves, SIGTERM, SIGKILL.
/// </summary>
internal sealed class Supervisor(
    IReadOnlyList<RankProcess> ranks, LaunchOptions options, FaultNotes notes, Output output, Guard guard, Channel<JobEvent> events)
{
    private enum Stage { Running, OthersMayEnd, AskedToEnd, Killed }

    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly List<RankEnd> _ends = [];
    private Stage _stage;
    private TimeSpan? _deadline;

    /// <summary>In the order in which the ranks ended.</summary>
    public IReadOnlyList<RankEnd> Ends => _ends;

    public RankEnd? FirstFailure { get; private set; }

    /// <summary>The signal that came from outside before any rank failed.</summary>
    public Signal? StoppedBy { get; private set; }

    /// <summary>The signals that the launcher sent.</summary>
    public HashSet<(RankProcess Rank, Signal Signal)> Sent { get; } = [];

    public int RankCount => ranks.Count;

    /// <summary>The job's purpose is fulfilled though ranks failed.</summary>
    public bool WentOn => options.KeepsGoing && _ends.Any(end => !end.Failed);

    public bool HasSignalled(RankEnd end) => Sent.Any(sent => sent.Rank == end.Process);

    public async Task RunAsync()
    {
        Task finished = Task.WhenAll(ranks.Select(FollowAsync));
        while (_ends.Count < ranks.Count)
        {
            switch (await NextEventAsync())
            {
                case RankEnded ended: OnEnded(ended.End); break;
                case SignalReceived received: OnSignal(received.Signal); break;
                default: Escalate(); break;
            }
        }
        await finished;
    }

    private async Task FollowAsync(RankProcess rank)
    {
        int exitCode = await rank.WaitForExitAsync();
        events.Writer.TryWrite(new RankEnded(new RankEnd(rank, exitCode, _clock.Elapsed)));
        await rank.FinishAsync();
        guard.Forget(rank.Pid);
    }

    /// <summary>The next event, or null at the deadline.</summary>
    private async Task<JobEvent?> NextEventAsync()
    {
        if (events.Reader.TryRead(out JobEvent? ready))
            return ready;
        using var timer = new CancellationTokenSource();
        if (_deadline is { } deadline)
            timer.CancelAfter(deadline > _clock.Elapsed ? deadline - _clock.Elapsed : TimeSpan.Zero);
        try
        {
            return await events.Reader.ReadAsync(timer.Token);
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    private void OnEnded(RankEnd end)
    {
        _ends.Add(end);
        if (!end.Failed || FirstFailure is not null)
            return;
        FirstFailure = end;
        if (StoppedBy is not null)
            return;
        output.Say(notes.By(end.Process.Rank) is { } note
            ? $"{end.Process.Name} ended: {end.How}, blaming rank {note.Culprit}"
            : $"{end.Process.Name} failed first: {end.How}");
        if (!options.KeepsGoing)
            Enter(Stage.OthersMayEnd);
    }

    private void OnSignal(Signal signal)
    {
        if (_stage is Stage.AskedToEnd or Stage.Killed)
        {
            Kill($"{signal} again");
            return;
        }
        if (FirstFailure is null)
            StoppedBy = signal;
        Send(signal, "passed on");
        Enter(Stage.AskedToEnd);
    }

    private void Escalate()
    {
        string late = string.Create(CultureInfo.InvariantCulture, $"still running after {options.Grace.TotalSeconds:0.###} s");
        if (_stage == Stage.OthersMayEnd)
        {
            Send(Signal.Terminate, late);
            Enter(Stage.AskedToEnd);
        }
        else
        {
            Kill(late);
        }
    }

    private void Kill(string why)
    {
        Send(Signal.Kill, why);
        Enter(Stage.Killed);
    }

    private void Enter(Stage stage)
    {
        _stage = stage;
        _deadline = stage == Stage.Killed ? null : _clock.Elapsed + options.Grace;
    }

    private void Send(Signal signal, string why)
    {
        RankProcess[] running = [.. ranks.Where(rank => rank.Running)];
        if (running.Length == 0)
            return;
        output.Say($"{signal} to {RankNumbers.Of(running.Select(rank => rank.Rank))}: {why}");
        foreach (RankProcess rank in running)
        {
            Sent.Add((rank, signal));
            rank.Send(signal);
        }
    }
}

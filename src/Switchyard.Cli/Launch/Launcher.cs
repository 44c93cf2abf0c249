using System.Threading.Channels;

namespace Switchyard.Cli.Launch;

internal static class Launcher
{
    /// <summary>Runs a job to its end and returns the launcher's exit code.</summary>
    public static async Task<int> RunAsync(LaunchOptions options)
    {
        var events = Channel.CreateUnbounded<JobEvent>();
        using var output = new Output();
        using var signals = new SignalSource(signal => events.Writer.TryWrite(new SignalReceived(signal)));
        string mark = JobMark.New();
        string? privatePath = JobDirectory.PrivatePathFor(options);
        await using Guard guard = Guard.Start(privatePath, mark);
        using JobDirectory directory = JobDirectory.Create(options, privatePath);
        using var notes = new FaultNotes(options, directory);
        var kills = MemoryKills.CountFromNow();
        using Crew crew = await Crew.StartAsync(options, directory, mark, output, guard);
        var supervisor = new Supervisor(crew.Ranks, options, notes, output, guard, events);
        await supervisor.RunAsync();
        return new Summary(supervisor, notes, kills, output).Print();
    }
}

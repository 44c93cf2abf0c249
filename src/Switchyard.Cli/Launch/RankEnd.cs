namespace Switchyard.Cli.Launch;

/// <summary>How a rank ended, and when on the job's clock.</summary>
internal sealed record RankEnd(RankProcess Process, int ExitCode, TimeSpan At)
{
    public Signal? KilledBy => Signal.FromExitCode(ExitCode);

    public bool Failed => ExitCode != 0;

    public string How => KilledBy is { } signal ? $"killed by {signal}" : $"exit code {ExitCode}";
}

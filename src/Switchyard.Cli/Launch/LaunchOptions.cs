namespace Switchyard.Cli.Launch;

internal sealed record LaunchOptions
{
    public required int Ranks { get; init; }
    public required string Job { get; init; }

    /// <summary>The user's token file; null for a fresh token.</summary>
    public string? TokenFile { get; init; }

    /// <summary>The folder where the ranks meet; null for a private one that lives as long as the job.</summary>
    public string? Directory { get; init; }

    public required TimeSpan Grace { get; init; }

    /// <summary>Whether a rank's failure is left to the others, who go on without it.</summary>
    public bool KeepsGoing { get; init; }

    public Binding Bind { get; init; }

    /// <summary>Whether each line of output names its rank.</summary>
    public required bool Prefix { get; init; }

    /// <summary>An executable's path and its arguments.</summary>
    public required IReadOnlyList<string> Command { get; init; }

    /// <summary>Environment variables that the ranks get besides the launcher's own.</summary>
    public IReadOnlyDictionary<string, string> Variables { get; init; } = new Dictionary<string, string>();
}

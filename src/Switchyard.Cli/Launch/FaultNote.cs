namespace Switchyard.Cli.Launch;

/// <summary>What a rank left behind about the peer that it failed for.</summary>
internal sealed record FaultNote(int Culprit, string Message);

namespace Switchyard.Cli.Launch;

internal abstract record JobEvent;

internal sealed record RankEnded(RankEnd End) : JobEvent;

internal sealed record SignalReceived(Signal Signal) : JobEvent;

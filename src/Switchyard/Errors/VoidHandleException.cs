namespace Switchyard;

/// <summary>
/// A rank gives the handle of a dispatch that was refused, or was enqueued behind a call that was: it brought nothing. All ranks get this error; the
/// buffer stays usable.
/// </summary>
/// <param name="rank">The rank whose handle it is.</param>
/// <param name="site">The call.</param>
/// <param name="callsBehind">Calls that this rank had enqueued behind it; -1 if that is not known.</param>
public sealed class VoidHandleException(int rank, CallSite site, int callsBehind = 0)
    : SwitchyardException(
        $"Rank {rank} gives the handle of a dispatch that brought nothing in {site}: it was refused, or enqueued behind a call that was. Dispatch again.{SwitchyardException.TellOf(callsBehind)}",
        Recovery.CallAgain)
{
    /// <summary>The rank whose handle it is.</summary>
    public int Rank { get; } = rank;

    /// <summary>The call.</summary>
    public CallSite Site { get; } = site;

    /// <inheritdoc cref="CapacityException.CallsBehind"/>
    public int CallsBehind { get; } = callsBehind;
}

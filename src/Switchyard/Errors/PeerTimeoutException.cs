namespace Switchyard;

/// <summary>A rank did not do its part of a call before the deadline, though its process lives.</summary>
/// <param name="peer">The rank that was waited for.</param>
/// <param name="reporter">The rank whose deadline passed; it told the others.</param>
/// <param name="site">Where the reporter's call stood.</param>
/// <param name="expected">The epoch waited for.</param>
/// <param name="seen">The latest epoch of that rank that was seen.</param>
/// <param name="waited">How long the reporter waited.</param>
/// <param name="hint">A likely reason, or nothing.</param>
public sealed class PeerTimeoutException(
    PeerInfo peer, int reporter, CallSite site, long expected, long seen, TimeSpan waited, string? hint = null)
    : SwitchyardException(
        $"Rank {reporter} waited {waited.TotalSeconds:0.###} s for {peer} in {site}: expected epoch {expected}, saw {seen}. "
        + (hint ?? "It is slow, stopped, or has not made this call; the deadline is ExpertBuffer.Deadline."), Recovery.Rebuild)
{
    /// <summary>The rank that was waited for.</summary>
    public PeerInfo Peer { get; } = peer;

    /// <summary>The rank whose deadline passed.</summary>
    public int Reporter { get; } = reporter;

    /// <summary>Where the reporter's call stood.</summary>
    public CallSite Site { get; } = site;

    /// <summary>The epoch waited for.</summary>
    public long Expected { get; } = expected;

    /// <summary>The latest epoch of that rank that was seen.</summary>
    public long Seen { get; } = seen;

    /// <summary>How long the reporter waited.</summary>
    public TimeSpan Waited { get; } = waited;
}

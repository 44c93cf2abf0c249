namespace Switchyard;

/// <summary>A rank of the group is gone: its process died or it left the group. Every surviving rank gets this error, naming the same rank.</summary>
/// <param name="peer">The rank that is gone.</param>
/// <param name="cause">What showed it.</param>
/// <param name="site">Where this rank's call stood.</param>
public sealed class PeerLostException(PeerInfo peer, string cause, CallSite site)
    : SwitchyardException($"Lost {peer}: {cause}. This rank was in: {site}.", Recovery.Rebuild)
{
    /// <summary>The rank that is gone, with its host and process.</summary>
    public PeerInfo Peer { get; } = peer;

    /// <summary>What showed it: the control connection closed, the process ended, or it left.</summary>
    public string Cause { get; } = cause;

    /// <summary>Where this rank's call stood.</summary>
    public CallSite Site { get; } = site;
}

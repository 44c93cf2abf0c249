namespace Switchyard;

/// <summary>
/// Ranks of the group are gone: their processes died or they left. Every surviving rank gets this error, naming the same ranks.
/// <see cref="ExpertGroup.RebuildAsync"/> makes a group of the survivors.
/// </summary>
/// <param name="lost">The ranks that were lost together, by rank; at least one.</param>
/// <param name="cause">What showed it of the first.</param>
/// <param name="site">Where this rank's call stood.</param>
/// <param name="seen">The last call on the buffer that the first was seen to make.</param>
public sealed class PeerLostException(IReadOnlyList<PeerInfo> lost, string cause, CallSite site, long seen = 0)
    : SwitchyardException(Describe(lost, cause, site, seen), Recovery.Rebuild)
{
    /// <summary>The rank that is gone, with its host and process; of several the lowest.</summary>
    public PeerInfo Peer { get; } = lost[0];

    /// <summary>All ranks that were lost together, by rank; one that was lost later is found by the next rebuild.</summary>
    public IReadOnlyList<PeerInfo> Lost { get; } = lost;

    /// <summary>What showed it: the control connection closed, the process ended, or it left.</summary>
    public string Cause { get; } = cause;

    /// <summary>Where this rank's call stood.</summary>
    public CallSite Site { get; } = site;

    /// <summary>The epoch that this rank was in.</summary>
    public long Expected => Site.Epoch;

    /// <summary>The last epoch that the lost rank was seen to begin, 0 for none.</summary>
    public long Seen { get; } = seen;

    private static string Describe(IReadOnlyList<PeerInfo> lost, string cause, CallSite site, long seen)
    {
        string others = lost.Count == 1 ? "" : $" Lost with it: {string.Join(", ", lost.Skip(1))}.";
        string progress = seen == 0 ? "" : $" It was last seen in epoch {seen}.";
        return $"Lost {lost[0]}: {cause}.{progress}{others} This rank was in: {site}.";
    }
}

namespace Switchyard;

/// <summary>Two ranks do not agree about a call (one skipped or reordered a call, or gave other options) or about the options of a buffer.</summary>
/// <param name="rank">One of the two ranks.</param>
/// <param name="other">The other.</param>
/// <param name="difference">What they disagree about, with both values.</param>
/// <param name="site">Where the call stood that found it.</param>
public sealed class CallMismatchException(int rank, int other, string difference, CallSite site)
    : SwitchyardException($"Ranks {rank} and {other} disagree: {difference}. Found in: {site}.", Recovery.Rebuild)
{
    /// <summary>One of the two ranks.</summary>
    public int Rank { get; } = rank;

    /// <summary>The other.</summary>
    public int Other { get; } = other;

    /// <summary>What they disagree about, with both values.</summary>
    public string Difference { get; } = difference;

    /// <summary>Where the call stood that found it.</summary>
    public CallSite Site { get; } = site;
}

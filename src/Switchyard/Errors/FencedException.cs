namespace Switchyard;

/// <summary>
/// The other ranks went on without this one: they evicted it when they rebuilt the group, while it was stopped or too slow. Nothing that it
/// writes reaches them any more.
/// </summary>
/// <param name="generation">The membership that this rank is not in.</param>
/// <param name="site">Where this rank's call stood.</param>
public sealed class FencedException(long generation, CallSite site) : SwitchyardException(
    $"The other ranks rebuilt the group without this one (generation {generation}). This rank was in: {site}. Join again where a place is offered (ExpertGroup.GrowAsync), or end.",
    Recovery.Join)
{
    /// <summary>The membership that this rank is not in.</summary>
    public long Generation { get; } = generation;

    /// <summary>Where this rank's call stood.</summary>
    public CallSite Site { get; } = site;
}

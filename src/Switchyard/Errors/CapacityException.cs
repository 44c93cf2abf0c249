namespace Switchyard;

/// <summary>A rank would receive more rows than it has room for. All ranks get this error, before any row moved; the buffer stays usable.</summary>
/// <param name="rank">The rank without room.</param>
/// <param name="needed">What it needs, in <paramref name="unit"/>.</param>
/// <param name="available">What it has, in <paramref name="unit"/>.</param>
/// <param name="unit">Rows or bytes.</param>
/// <param name="remedy">The option that gives more room.</param>
/// <param name="site">The call.</param>
/// <param name="callsBehind">Calls that this rank had enqueued behind it; -1 if that is not known.</param>
public sealed class CapacityException(int rank, long needed, long available, string unit, string remedy, CallSite site, int callsBehind = 0)
    : SwitchyardException(
        $"Rank {rank} needs room for {needed} {unit} and has room for {available} in {site}. {remedy}{SwitchyardException.TellOf(callsBehind)}", Recovery.CallAgain)
{
    /// <summary>The rank without room.</summary>
    public int Rank { get; } = rank;

    /// <summary>What it needs.</summary>
    public long Needed { get; } = needed;

    /// <summary>What it has.</summary>
    public long Available { get; } = available;

    /// <summary>The unit of both numbers: rows or bytes.</summary>
    public string Unit { get; } = unit;

    /// <summary>The call.</summary>
    public CallSite Site { get; } = site;

    /// <summary>
    /// Calls of this rank behind that one, which it had enqueued before it knew: they did nothing. -1 where a run of a graph was refused: how many came
    /// behind that is not known. See <see cref="DeviceOptions"/>.
    /// </summary>
    public int CallsBehind { get; } = callsBehind;
}

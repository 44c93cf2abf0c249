namespace Switchyard;

/// <summary>Who a rank is.</summary>
/// <param name="Rank">Its index in the group.</param>
/// <param name="Host">The host it runs on.</param>
/// <param name="ProcessId">Its process there.</param>
public sealed record PeerInfo(int Rank, string Host, int ProcessId)
{
    /// <summary>The lowest rank of its node: ranks that have it in common can map each other's memory.</summary>
    public int Node { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"rank {Rank} (host {Host}, pid {ProcessId})";
}

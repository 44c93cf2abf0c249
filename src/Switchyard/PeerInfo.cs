namespace Switchyard;

/// <summary>Who a rank is.</summary>
/// <param name="Rank">Its index in the group.</param>
/// <param name="Host">The host it runs on.</param>
/// <param name="ProcessId">Its process there.</param>
public sealed record PeerInfo(int Rank, string Host, int ProcessId)
{
    /// <inheritdoc/>
    public override string ToString() => $"rank {Rank} (host {Host}, pid {ProcessId})";
}

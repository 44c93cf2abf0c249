namespace Switchyard;

/// <summary>A peer wrote something that no correct peer writes: an offset outside its arena, a count beyond a limit, a malformed frame.</summary>
/// <param name="peer">The rank that wrote it; -1 where it is not known yet.</param>
/// <param name="message">What was read, and what it had to be.</param>
public sealed class ProtocolException(int peer, string message)
    : SwitchyardException(peer < 0 ? message : $"Rank {peer} broke the protocol: {message}", Recovery.Rebuild)
{
    /// <summary>The rank that wrote it; -1 where it is not known yet.</summary>
    public int Peer { get; } = peer;
}

namespace Switchyard;

/// <summary>
/// A rank's choices are wrong, which only its device could see. All ranks get this error, before any row moved; the buffer stays usable.
/// </summary>
/// <param name="rank">The rank whose choices they are.</param>
/// <param name="token">Its first token that chooses what is not there, or an expert twice.</param>
/// <param name="expert">What it chooses.</param>
/// <param name="experts">The experts of the buffer.</param>
/// <param name="site">The call.</param>
/// <param name="callsBehind">Calls that this rank had enqueued behind it; -1 if that is not known.</param>
public sealed class RoutingException(int rank, int token, long expert, int experts, CallSite site, int callsBehind = 0)
    : SwitchyardException(
        $"Token {token} of rank {rank} chooses expert {expert} in {site}: topkIndices must be -1 or 0 to {experts - 1} (ExpertBufferOptions.Experts), and the experts of a token must differ.{SwitchyardException.TellOf(callsBehind)}",
        Recovery.CallAgain)
{
    /// <summary>The rank whose choices are wrong.</summary>
    public int Rank { get; } = rank;

    /// <summary>The token, by its index there.</summary>
    public int Token { get; } = token;

    /// <summary>What it chooses.</summary>
    public long Expert { get; } = expert;

    /// <summary>The call.</summary>
    public CallSite Site { get; } = site;

    /// <inheritdoc cref="CapacityException.CallsBehind"/>
    public int CallsBehind { get; } = callsBehind;
}

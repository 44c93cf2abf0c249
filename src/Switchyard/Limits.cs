namespace Switchyard;

/// <summary>What this version can do at most. Every limit is checked where a value enters, in an error that names it.</summary>
public static class Limits
{
    /// <summary>Ranks in a group. Up to here every rank sees the whole count matrix.</summary>
    public const int MaxRanks = 64;

    /// <summary>Experts in a buffer, over all ranks.</summary>
    public const int MaxExperts = 4096;

    /// <summary>Experts a token may choose.</summary>
    public const int MaxTopK = 64;

    /// <summary>Elements of a row.</summary>
    public const int MaxHidden = 1 << 20;

    /// <summary>Bytes of a row that is dispatched, and of its scales.</summary>
    public const int MaxRowBytes = 4 * MaxHidden;

    /// <summary>Threads that move rows on a rank.</summary>
    public const int MaxWorkerThreads = 256;

    /// <summary>Tokens a rank may dispatch in one call.</summary>
    public const int MaxTokensPerRank = 1 << 20;

    /// <summary>Rows a rank may receive in one call, padding included.</summary>
    public const int MaxReceiveRows = int.MaxValue / 2;

    /// <summary>Expert alignment, in rows.</summary>
    public const int MaxExpertAlignment = 4096;

    /// <summary>Rows from one rank to another in one call: what the 24-bit count beside a 39-bit epoch can say.</summary>
    public const int MaxRowsPerPeer = (1 << 24) - 1;
}

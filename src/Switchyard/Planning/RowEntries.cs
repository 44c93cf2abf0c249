namespace Switchyard.Planning;

/// <summary>
/// Rows that belong to this rank's tokens, wherever they lie: those of token t are the entries [End[t - 1], End[t]), in the order in which
/// combine adds them.
/// </summary>
internal sealed class RowEntries(int maxTokens, int topK)
{
    /// <summary>By token: the entry behind its last.</summary>
    public int[] End { get; } = new int[maxTokens];

    /// <summary>By entry: the rank that has the row.</summary>
    public int[] Rank { get; } = new int[maxTokens * topK];

    /// <summary>By entry: the row there. Until the counts of all ranks are known, its ordinal among this rank's rows to there.</summary>
    public int[] Row { get; } = new int[maxTokens * topK];

    /// <summary>By entry: which of the token's choices it stands for; of rows that stand for a rank, nothing.</summary>
    public int[] Choice { get; } = new int[maxTokens * topK];

    public int FirstOf(int token) => token == 0 ? 0 : End[token - 1];

    public int CountOf(int tokens) => tokens == 0 ? 0 : End[tokens - 1];
}

namespace Switchyard;

/// <summary>How received rows are arranged.</summary>
public enum RowLayout : byte
{
    /// <summary>
    /// One row a token and destination rank, however many of the token's experts live there; ordered by source rank, then token.
    /// The caller sums the results of a row's experts itself.
    /// </summary>
    RankMajor = 0,

    /// <summary>
    /// One row a token and expert, grouped by expert; within an expert ordered by source rank, then token. Each group starts at a
    /// multiple of <see cref="DispatchOptions.ExpertAlignment"/>.
    /// </summary>
    ExpertMajor = 1,
}

namespace Switchyard;

/// <summary>Options of one dispatch. All ranks give the same.</summary>
public readonly record struct DispatchOptions
{
    private readonly int _alignmentMinusOne;

    /// <summary>How received rows are arranged. Default: <see cref="RowLayout.RankMajor"/>.</summary>
    public RowLayout Layout { get; init; }

    /// <summary>
    /// Expert-major: each expert's rows start at a multiple of this many rows, as grouped matrix products need it; the rows between have
    /// unspecified content, source -1 and weight 0. 1 to <see cref="Limits.MaxExpertAlignment"/>, default 1.
    /// </summary>
    public int ExpertAlignment
    {
        get => _alignmentMinusOne + 1;
        init => _alignmentMinusOne = value - 1;
    }

    internal void Validate()
    {
        if (Layout is not (RowLayout.RankMajor or RowLayout.ExpertMajor))
            throw new ArgumentOutOfRangeException(nameof(Layout), Layout, "DispatchOptions.Layout must be RankMajor or ExpertMajor.");
        if (ExpertAlignment is < 1 or > Limits.MaxExpertAlignment)
            throw new ArgumentOutOfRangeException(nameof(ExpertAlignment), ExpertAlignment, $"DispatchOptions.ExpertAlignment must be 1 to {Limits.MaxExpertAlignment} rows.");
        if (Layout == RowLayout.RankMajor && ExpertAlignment != 1)
            throw new ArgumentException($"DispatchOptions.ExpertAlignment is {ExpertAlignment}, but rank-major rows are not grouped by expert: leave it 1.", nameof(ExpertAlignment));
    }
}

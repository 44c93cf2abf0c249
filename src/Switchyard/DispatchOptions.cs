namespace Switchyard;

/// <summary>Options of one dispatch. All ranks give the same, <see cref="ZeroPadding"/> and <see cref="Device"/> excepted.</summary>
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

    /// <summary>Expert-major: the rows between the experts' groups, and their scales, are zeros instead of unspecified.</summary>
    public bool ZeroPadding { get; init; }

    /// <summary>
    /// The result has as many rows as can come at most (<see cref="ExpertBufferOptions.ReceiveCapacity"/>, and in expert-major alignment for
    /// each local expert), whatever comes; those that did not come have source -1, index -1 and weight 0. How many came is told in the arena
    /// (<see cref="Dispatched.Counts"/>) and not to the host, so that what follows never has to wait for it.
    /// </summary>
    public bool FixedShape { get; init; }

    /// <summary>
    /// Expert-major: combine sums the results of a token that lie on one rank there, rounds the sum to the buffer's element, and only that
    /// travels: fewer bytes between ranks, one rounding more. Default: every result travels, and the sum is rounded once.
    /// </summary>
    public bool PreReduce { get; init; }

    /// <summary>
    /// Quantizes rows of the buffer's element on their way: they arrive as if they had been quantized before, hidden of
    /// <see cref="ElementType.Float8E4M3"/> with scales of <see cref="ElementType.Single"/>, or packed ones of <see cref="ElementType.Int32"/>,
    /// as <see cref="Float8Scaling"/> says. Default: rows travel as they are. <see cref="ScaledRows"/> cannot be quantized.
    /// </summary>
    public Float8Scaling Quantize { get; init; }

    /// <summary>How the scales of <see cref="ScaledRows"/> and of <see cref="Quantize"/> are laid out where they arrive. They are always given by rows.</summary>
    public ScaleLayout ScaleLayout { get; init; }

    /// <summary>Where the call's work stands among that of a device; each rank's own.</summary>
    public DeviceOptions Device { get; init; }

    internal void Validate()
    {
        if (Layout is not (RowLayout.RankMajor or RowLayout.ExpertMajor))
            throw new ArgumentOutOfRangeException(nameof(Layout), Layout, "DispatchOptions.Layout must be RankMajor or ExpertMajor.");
        if (ExpertAlignment is < 1 or > Limits.MaxExpertAlignment)
            throw new ArgumentOutOfRangeException(nameof(ExpertAlignment), ExpertAlignment, $"DispatchOptions.ExpertAlignment must be 1 to {Limits.MaxExpertAlignment} rows.");
        if (ScaleLayout is not (ScaleLayout.RowMajor or ScaleLayout.ColumnMajor))
            throw new ArgumentOutOfRangeException(nameof(ScaleLayout), ScaleLayout, "DispatchOptions.ScaleLayout must be RowMajor or ColumnMajor.");
        Arguments.RequireScaling(Quantize, nameof(Quantize), "DispatchOptions.Quantize");
        if (Layout != RowLayout.RankMajor) return;
        if (ExpertAlignment != 1)
            throw new ArgumentException($"DispatchOptions.ExpertAlignment is {ExpertAlignment}, but rank-major rows are not grouped by expert: leave it 1.", nameof(ExpertAlignment));
        if (ZeroPadding)
            throw new ArgumentException("DispatchOptions.ZeroPadding is set, but rank-major rows have no padding: leave it out, or use RowLayout.ExpertMajor.", nameof(ZeroPadding));
        if (PreReduce)
            throw new ArgumentException("DispatchOptions.PreReduce is set, but rank-major rows are reduced at their rank by the caller: leave it out, or use RowLayout.ExpertMajor.", nameof(PreReduce));
    }
}

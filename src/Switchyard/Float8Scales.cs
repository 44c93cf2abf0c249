namespace Switchyard;

/// <summary>
/// How many scales quantized rows have. A scale serves <see cref="GroupSize"/> adjacent channels of a row, the last one of a row what
/// remains. Packed scales (UE8M0) are the biased exponents of powers of two, four to an <see cref="int"/>: that of the first group
/// in its lowest byte; bytes after a row's last group are 0.
/// </summary>
public static class Float8Scales
{
    /// <summary>Channels that share a scale.</summary>
    public const int GroupSize = 128;

    /// <summary>Scales in a packed integer.</summary>
    internal const int Places = 4;

    /// <summary>Scales of a row, one a group.</summary>
    /// <param name="hidden">Elements of a row.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="hidden"/> is not 1 to <see cref="Limits.MaxHidden"/>.</exception>
    public static int PerRow(int hidden) => PerRow(hidden, GroupSize);

    /// <summary>Integers that hold the packed scales of a row.</summary>
    /// <inheritdoc cref="PerRow(int)"/>
    public static int PackedPerRow(int hidden) => PerRow(hidden, Places * GroupSize);

    /// <summary>The length of a buffer of <see cref="float"/> scales, with the gaps of the layout.</summary>
    /// <param name="rows">Rows that are quantized.</param>
    /// <param name="hidden">Elements of a row.</param>
    /// <param name="layout">How the scales are arranged.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of range.</exception>
    public static long Count(int rows, int hidden, ScaleLayout layout) => Count(rows, layout, PerRow(hidden));

    /// <summary>The length of a buffer of packed scales, with the gaps of the layout.</summary>
    /// <inheritdoc cref="Count(int, int, ScaleLayout)"/>
    public static long PackedCount(int rows, int hidden, ScaleLayout layout) => Count(rows, layout, PackedPerRow(hidden));

    private static int PerRow(int hidden, int channels)
    {
        if (hidden is < 1 or > Limits.MaxHidden)
            throw new ArgumentOutOfRangeException(nameof(hidden), hidden, $"hidden must be 1 to {Limits.MaxHidden} (Limits.MaxHidden).");
        return (hidden + channels - 1) / channels;
    }

    private static long Count(int rows, ScaleLayout layout, int perRow)
    {
        long stride = ScaleLayouts.ColumnStride(rows, sizeof(float));
        return layout switch
        {
            ScaleLayout.RowMajor => (long)rows * perRow,
            ScaleLayout.ColumnMajor => stride * perRow,
            _ => throw new ArgumentOutOfRangeException(nameof(layout), layout, "layout must be RowMajor or ColumnMajor."),
        };
    }
}

namespace Switchyard;

/// <summary>How the scales of rows are arranged in memory.</summary>
public enum ScaleLayout : byte
{
    /// <summary>The scales of a row are adjacent, rows follow each other without gaps.</summary>
    RowMajor = 0,

    /// <summary>
    /// The scales of a column (one group of channels in all rows) are adjacent: that of row r and column g lies at index
    /// g × <see cref="ScaleLayouts.ColumnStride"/> + r. Libraries for grouped matrix products call this form TMA-aligned.
    /// </summary>
    ColumnMajor = 1,
}

/// <summary>Facts about scale layouts.</summary>
public static class ScaleLayouts
{
    /// <summary>The bytes of a column in <see cref="ScaleLayout.ColumnMajor"/> are a multiple of this.</summary>
    public const int ColumnAlignment = 16;

    /// <summary>Scales from column to column in <see cref="ScaleLayout.ColumnMajor"/>: the rows, rounded up to align columns.</summary>
    /// <param name="rows">Rows that have scales.</param>
    /// <param name="scaleBytes">Bytes of one scale: 1, 2, 4, 8 or 16.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of range.</exception>
    public static long ColumnStride(long rows, int scaleBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        if (scaleBytes is not (1 or 2 or 4 or 8 or 16))
            throw new ArgumentOutOfRangeException(nameof(scaleBytes), scaleBytes, "A scale has 1, 2, 4, 8 or 16 bytes.");
        int multiple = ColumnAlignment / scaleBytes;
        return (rows + multiple - 1) / multiple * multiple;
    }
}

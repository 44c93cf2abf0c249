namespace Switchyard.Arena;

/// <summary>What decides a region's layout beside its rows: the same in a whole call.</summary>
/// <param name="Format">The rows.</param>
/// <param name="Columns">Columns of metadata: top-k where a row stands for a token and rank, one where it stands for a choice.</param>
/// <param name="CountWords">Words of counts that a fixed-shape result has in the arena; 0 in others.</param>
/// <param name="GroupColumns">Rows that a pre-reduced sum can have at most; 0 where nothing is pre-reduced.</param>
internal readonly record struct RegionShape(RowFormat Format, int Columns, int CountWords, int GroupColumns);

/// <summary>
/// What lies where in a region: rows and scales, then, behind a dispatch's first rows, their sources, expert indices and weights, counts, and
/// the groups of rows that are pre-reduced.
/// </summary>
internal readonly record struct RegionLayout
{
    /// <param name="rows">The rows.</param>
    /// <param name="groups">The groups of rows to pre-reduce; at most as many as rows.</param>
    /// <param name="shape">The rest.</param>
    public RegionLayout(long rows, long groups, RegionShape shape)
    {
        Rows = rows;
        Shape = shape;
        ScalesOffset = AlignUp(rows * shape.Format.RowBytes);
        SourcesOffset = AlignUp(ScalesOffset + shape.Format.ScalesBytes(rows));
        IndicesOffset = AlignUp(SourcesOffset + (rows * 8));
        WeightsOffset = AlignUp(IndicesOffset + (rows * shape.Columns * 4));
        CountsOffset = AlignUp(WeightsOffset + (rows * shape.Columns * 4));
        GroupsOffset = AlignUp(CountsOffset + (shape.CountWords * 4L));
        Bytes = AlignUp(GroupsOffset + (groups * shape.GroupColumns * 4));
    }

    public long Rows { get; }

    public RegionShape Shape { get; }

    /// <summary>Per row its scales, or by columns.</summary>
    public long ScalesOffset { get; }

    /// <summary>Per row: source rank and source token, i32 each.</summary>
    public long SourcesOffset { get; }

    /// <summary>Per row and column: local expert, i32, or -1.</summary>
    public long IndicesOffset { get; }

    /// <summary>Per row and column: weight, f32.</summary>
    public long WeightsOffset { get; }

    /// <summary>Fixed shape: rows, then tokens and first row of each local expert, i32.</summary>
    public long CountsOffset { get; }

    /// <summary>Pre-reduction: per group the rows that are summed, in order, i32; -1 behind the last.</summary>
    public long GroupsOffset { get; }

    public long Bytes { get; }

    /// <summary>The most rows for which a region fits into <paramref name="bytes"/>, however they are grouped.</summary>
    public static long MaxRows(long bytes, RegionShape shape)
    {
        long perRow = shape.Format.RowBytes + shape.Format.ScaleBytes + 8 + (8L * shape.Columns) + (4L * shape.GroupColumns);
        long rows = bytes / perRow;
        while (rows > 0 && new RegionLayout(rows, rows, shape).Bytes > bytes) rows--;
        return rows;
    }

    private static long AlignUp(long value) => ArenaLayout.AlignUp(value, ArenaLayout.LineBytes);
}

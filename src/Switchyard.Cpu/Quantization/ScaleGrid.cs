namespace Switchyard.Cpu.Quantization;

/// <summary>Which channels the entries of a scale buffer serve, and where they lie.</summary>
internal readonly struct ScaleGrid
{
    private readonly int _hidden;
    private readonly int _channels;
    private readonly long _rowStep;
    private readonly long _columnStep;

    private ScaleGrid(int rows, int hidden, int channels, ScaleLayout layout)
    {
        if (hidden is < 1 or > Limits.MaxHidden)
            throw new ArgumentOutOfRangeException(nameof(hidden), hidden, $"hidden must be 1 to {Limits.MaxHidden} (Limits.MaxHidden).");
        Rows = rows;
        Columns = (hidden + channels - 1) / channels;
        _hidden = hidden;
        _channels = channels;
        long stride = ScaleLayouts.ColumnStride(rows, sizeof(float));
        (_rowStep, _columnStep, Length) = layout switch
        {
            ScaleLayout.RowMajor => (Columns, 1, (long)rows * Columns),
            ScaleLayout.ColumnMajor => (1, stride, stride * Columns),
            _ => throw new ArgumentOutOfRangeException(nameof(layout), layout, "layout must be RowMajor or ColumnMajor."),
        };
    }

    public int Rows { get; }

    /// <summary>Entries of a row.</summary>
    public int Columns { get; }

    /// <summary>Entries in all, with the gaps of the layout.</summary>
    public long Length { get; }

    public static ScaleGrid Create<TEntry>(int rows, int hidden, ScaleLayout layout)
        where TEntry : unmanaged => new(rows, hidden, ScaleEntry.Places<TEntry>() * Float8Scales.GroupSize, layout);

    public int IndexOf(int row, int column) => (int)((row * _rowStep) + (column * _columnStep));

    /// <summary>The channels an entry serves, counted from the first element of the first row.</summary>
    public (int Start, int Length) Channels(int row, int column)
    {
        int first = column * _channels;
        return ((row * _hidden) + first, Math.Min(_channels, _hidden - first));
    }
}

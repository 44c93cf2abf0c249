namespace Switchyard.Cpu.Quantization;

/// <summary>Which channels the entries of a scale buffer serve, and where they lie.</summary>
internal readonly struct ScaleGrid
{
    private readonly int _hidden;
    private readonly int _channels;
    private readonly long _rowStep;
    private readonly long _columnStep;

    private ScaleGrid(int rows, int hidden, int scalesAnEntry, int columns, long length, ScaleLayout layout)
    {
        Rows = rows;
        Columns = columns;
        Length = length;
        _hidden = hidden;
        _channels = scalesAnEntry * Float8Scales.GroupSize;
        (_rowStep, _columnStep) = layout == ScaleLayout.RowMajor ? (columns, 1) : (1, ScaleLayouts.ColumnStride(rows, sizeof(float)));
    }

    public int Rows { get; }

    /// <summary>Entries of a row.</summary>
    public int Columns { get; }

    /// <summary>Entries in all, with the gaps of the layout.</summary>
    public long Length { get; }

    /// <summary>The grid of entries that are a scale each (<see cref="float"/>) or several packed ones (<see cref="int"/>).</summary>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of range.</exception>
    public static ScaleGrid Create<TEntry>(int rows, int hidden, ScaleLayout layout)
        where TEntry : unmanaged => typeof(TEntry) == typeof(float)
            ? new(rows, hidden, 1, Float8Scales.PerRow(hidden), Float8Scales.Count(rows, hidden, layout), layout)
            : new(rows, hidden, Float8Scales.Places, Float8Scales.PackedPerRow(hidden), Float8Scales.PackedCount(rows, hidden, layout), layout);

    public int IndexOf(int row, int column) => (int)((row * _rowStep) + (column * _columnStep));

    /// <summary>The channels an entry serves, counted from the first element of the first row.</summary>
    public (int Start, int Length) Channels(int row, int column)
    {
        int first = column * _channels;
        return ((row * _hidden) + first, Math.Min(_channels, _hidden - first));
    }
}

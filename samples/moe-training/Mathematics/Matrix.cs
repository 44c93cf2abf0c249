namespace MoeTraining;

/// <summary>Rows of floats that lie one after another; a view, wherever they are.</summary>
internal readonly ref struct Matrix(Span<float> values, int columns)
{
    public Span<float> Values { get; } = values;

    public int Columns { get; } = columns;

    public int Rows => Values.Length / Columns;

    public Span<float> this[int row] => Values.Slice(row * Columns, Columns);

    public Matrix Slice(int firstRow, int rows) => new(Values.Slice(firstRow * Columns, rows * Columns), Columns);

    public Matrix Slice(Range rows)
    {
        (int first, int count) = rows.GetOffsetAndLength(Rows);
        return Slice(first, count);
    }
}

using System.Buffers;
using System.Runtime.Intrinsics;

namespace MoeTraining;

/// <summary>
/// Products of matrices whose every element is one chain of fused multiply-adds in index order. An element therefore depends on
/// its row of the left matrix and its column of the right one only, never on how many rows are multiplied together: the result
/// of a token is the same bit for bit, whichever rank computes it and whatever else that rank has to do.
/// </summary>
internal static class MatrixProduct
{
    private const int TileRows = 4;
    private const int TileColumns = 16;

    /// <summary>c = a·b</summary>
    public static void Multiply(Matrix a, Matrix b, Matrix c)
    {
        c.Values.Clear();
        Accumulate(a.Values, a.Columns, 1, b, c, a.Columns);
    }

    /// <summary>c += a·b</summary>
    public static void AddMultiply(Matrix a, Matrix b, Matrix c) => Accumulate(a.Values, a.Columns, 1, b, c, a.Columns);

    /// <summary>c += aᵀ·b, summed over the rows of a and b in their order</summary>
    public static void AddTransposedMultiply(Matrix a, Matrix b, Matrix c) => Accumulate(a.Values, 1, a.Columns, b, c, a.Rows);

    /// <summary>c = a·bᵀ</summary>
    public static void MultiplyTransposed(Matrix a, Matrix b, Matrix c)
    {
        c.Values.Clear();
        AddMultiplyTransposed(a, b, c);
    }

    /// <summary>c += a·bᵀ</summary>
    public static void AddMultiplyTransposed(Matrix a, Matrix b, Matrix c)
    {
        float[] scratch = ArrayPool<float>.Shared.Rent(b.Values.Length);
        var transposed = new Matrix(scratch.AsSpan(0, b.Values.Length), b.Rows);
        Transpose(b, transposed);
        AddMultiply(a, transposed, c);
        ArrayPool<float>.Shared.Return(scratch);
    }

    private static void Transpose(Matrix source, Matrix target)
    {
        for (int row = 0; row < source.Rows; row++)
        {
            ReadOnlySpan<float> values = source[row];
            for (int column = 0; column < values.Length; column++) target.Values[column * target.Columns + row] = values[column];
        }
    }

    /// <summary>c[r, ·] += Σₖ a[r·rowStep + k·innerStep] b[k, ·]</summary>
    private static unsafe void Accumulate(ReadOnlySpan<float> a, int rowStep, int innerStep, Matrix b, Matrix c, int inner)
    {
        if (b.Rows != inner || b.Columns != c.Columns || a.Length != c.Rows * inner || c.Columns % TileColumns != 0)
            throw new ArgumentException($"Cannot multiply {c.Rows}x{inner} by {b.Rows}x{b.Columns} into {c.Rows}x{c.Columns}.");
        fixed (float* left = a, right = b.Values, result = c.Values)
        {
            for (int column = 0; column < c.Columns; column += TileColumns)
            {
                int row = 0;
                for (; row + TileRows <= c.Rows; row += TileRows)
                    FourRows(left + row * rowStep, rowStep, innerStep, right + column, result + row * c.Columns + column, inner, c.Columns);
                for (; row < c.Rows; row++)
                    OneRow(left + row * rowStep, innerStep, right + column, result + row * c.Columns + column, inner, c.Columns);
            }
        }
    }

    private static unsafe void FourRows(float* a, int rowStep, int innerStep, float* b, float* c, int inner, int columns)
    {
        Vector256<float> c00 = Vector256.Load(c), c01 = Vector256.Load(c + 8);
        Vector256<float> c10 = Vector256.Load(c + columns), c11 = Vector256.Load(c + columns + 8);
        Vector256<float> c20 = Vector256.Load(c + 2 * columns), c21 = Vector256.Load(c + 2 * columns + 8);
        Vector256<float> c30 = Vector256.Load(c + 3 * columns), c31 = Vector256.Load(c + 3 * columns + 8);
        for (int k = 0; k < inner; k++, a += innerStep, b += columns)
        {
            Vector256<float> b0 = Vector256.Load(b), b1 = Vector256.Load(b + 8);
            Vector256<float> a0 = Vector256.Create(a[0]), a1 = Vector256.Create(a[rowStep]);
            Vector256<float> a2 = Vector256.Create(a[2 * rowStep]), a3 = Vector256.Create(a[3 * rowStep]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            c20 = Vector256.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(a2, b1, c21);
            c30 = Vector256.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(a3, b1, c31);
        }
        c00.Store(c);
        c01.Store(c + 8);
        c10.Store(c + columns);
        c11.Store(c + columns + 8);
        c20.Store(c + 2 * columns);
        c21.Store(c + 2 * columns + 8);
        c30.Store(c + 3 * columns);
        c31.Store(c + 3 * columns + 8);
    }

    private static unsafe void OneRow(float* a, int innerStep, float* b, float* c, int inner, int columns)
    {
        Vector256<float> c0 = Vector256.Load(c), c1 = Vector256.Load(c + 8);
        for (int k = 0; k < inner; k++, a += innerStep, b += columns)
        {
            Vector256<float> value = Vector256.Create(*a);
            c0 = Vector256.FusedMultiplyAdd(value, Vector256.Load(b), c0);
            c1 = Vector256.FusedMultiplyAdd(value, Vector256.Load(b + 8), c1);
        }
        c0.Store(c);
        c1.Store(c + 8);
    }
}

using System.Numerics.Tensors;
using Switchyard;

namespace MoeTraining;

/// <summary>This rank's experts of one block: y = w·relu(x·up)·down for each received row x with its gate weight w.</summary>
internal sealed class Experts
{
    private readonly ModelShape _shape;
    private readonly ParallelOptions _parallel;
    private readonly int _perExpert;

    public Experts(ModelShape shape, int block, int[] experts, ParallelOptions parallel)
    {
        _shape = shape;
        _parallel = parallel;
        _perExpert = 2 * shape.Hidden * shape.ExpertHidden;
        Count = experts.Length;
        Parameters = new float[Count * _perExpert];
        Gradient = new float[Count * _perExpert];
        for (int local = 0; local < Count; local++)
        {
            // Seeded by the expert's number, not the rank's: any number of ranks starts from the same weights.
            var random = new Random(1000 * (block + 1) + experts[local]);
            Initial.Fill(random, Up(Parameters, local).Values, 1 / MathF.Sqrt(shape.Hidden));
            Initial.Fill(random, Down(Parameters, local).Values, 1 / MathF.Sqrt(shape.ExpertHidden));
        }
    }

    public int Count { get; }

    public float[] Parameters { get; }

    public float[] Gradient { get; }

    /// <summary>Fills the result rows of what was received.</summary>
    public void Forward(BlockState state)
    {
        Dispatched received = state.Received;
        _ = received.ResultRows; // Taken from the pool here, by the buffer's one caller, before several threads look at it.
        if (state.Activations.Length < received.RowCount * _shape.ExpertHidden)
            state.Activations = new float[received.RowCount * _shape.ExpertHidden * 5 / 4];
        Parallel.For(0, Count, _parallel, expert =>
        {
            Range rows = RowsOf(received, expert);
            Matrix x = Take(received.Rows, rows), y = Take(received.ResultRows, rows), a = Take(state.Activations, rows);
            MatrixProduct.Multiply(x, Up(Parameters, expert), a);
            TensorPrimitives.Max(a.Values, 0, a.Values);
            MatrixProduct.Multiply(a, Down(Parameters, expert), y);
            ReadOnlySpan<float> weights = received.TopkWeights[rows];
            for (int row = 0; row < y.Rows; row++) TensorPrimitives.Multiply(y[row], weights[row], y[row]);
        });
    }

    /// <summary>
    /// From the gradients of the results, which it overwrites: the gradients of the received rows (in the result rows of
    /// <paramref name="gradients"/>), of their weights, and of the parameters.
    /// </summary>
    public void Backward(BlockState state, Dispatched gradients, float[] weightGradients)
    {
        Dispatched received = state.Received;
        _ = gradients.ResultRows;
        Gradient.AsSpan().Clear();
        Parallel.For(0, Count, _parallel, expert =>
        {
            Range rows = RowsOf(received, expert);
            Matrix x = Take(received.Rows, rows), dx = Take(gradients.ResultRows, rows), dy = Take(gradients.Rows, rows);
            Matrix a = Take(state.Activations, rows), da = new(new float[a.Values.Length], a.Columns);
            ReadOnlySpan<float> weights = received.TopkWeights[rows];
            Span<float> dWeights = weightGradients.AsSpan(rows);

            MatrixProduct.MultiplyTransposed(dy, Down(Parameters, expert), da);
            for (int row = 0; row < x.Rows; row++)
            {
                dWeights[row] = Sums.Dot(a[row], da[row]);
                TensorPrimitives.Multiply(dy[row], weights[row], dy[row]);
                PassActive(a[row], weights[row], da[row]);
            }
            MatrixProduct.AddTransposedMultiply(a, dy, Down(Gradient, expert));
            MatrixProduct.AddTransposedMultiply(x, da, Up(Gradient, expert));
            MatrixProduct.MultiplyTransposed(da, Up(Parameters, expert), dx);
        });
    }

    private static void PassActive(ReadOnlySpan<float> activation, float weight, Span<float> gradient)
    {
        for (int i = 0; i < gradient.Length; i++) gradient[i] = activation[i] > 0 ? weight * gradient[i] : 0;
    }

    private static Range RowsOf(Dispatched received, int expert)
    {
        int first = received.ExpertOffsets[expert];
        return first..(first + received.TokensPerExpert[expert]);
    }

    private Matrix Take(TensorView view, Range rows) => new Matrix(view.AsSpan<float>(), _shape.Hidden).Slice(rows);

    private Matrix Take(float[] activations, Range rows) => new Matrix(activations, _shape.ExpertHidden).Slice(rows);

    private Matrix Up(float[] values, int expert) =>
        new(values.AsSpan(expert * _perExpert, _perExpert / 2), _shape.ExpertHidden);

    private Matrix Down(float[] values, int expert) =>
        new(values.AsSpan(expert * _perExpert + _perExpert / 2, _perExpert / 2), _shape.Hidden);
}

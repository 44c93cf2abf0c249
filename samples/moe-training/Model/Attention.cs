using System.Numerics.Tensors;

namespace MoeTraining;

/// <summary>Causal self-attention with one head: x += softmax(q·kᵀ/√h)·v·o, with q, k and v from the normalized x.</summary>
internal sealed class Attention(ModelShape shape, DenseLayout layout, int block)
{
    private readonly float _scale = 1 / MathF.Sqrt(shape.Hidden);

    public void Forward(float[] parameters, BlockState state, Shard shard, Matrix x)
    {
        int hidden = shape.Hidden, length = shape.SequenceLength;
        Matrix input = shard.Of(state.AttentionInput, hidden), attention = shard.Of(state.Attention, length);
        Matrix q = shard.Of(state.Queries, hidden), k = shard.Of(state.Keys, hidden), v = shard.Of(state.Values, hidden);
        Matrix mixed = shard.Of(state.Mixed, hidden);

        Functions.Normalize(x, input, shard.Part(state.AttentionInverseRms));
        MatrixProduct.Multiply(input, layout.Query(parameters, block), q);
        MatrixProduct.Multiply(input, layout.Key(parameters, block), k);
        MatrixProduct.Multiply(input, layout.Value(parameters, block), v);
        for (int first = 0; first < x.Rows; first += length)
        {
            Matrix p = attention.Slice(first, length);
            MatrixProduct.MultiplyTransposed(q.Slice(first, length), k.Slice(first, length), p);
            for (int row = 0; row < length; row++)
            {
                Span<float> past = p[row][..(row + 1)];
                TensorPrimitives.Multiply(past, _scale, past);
                Functions.Softmax(past);
                p[row][(row + 1)..].Clear();
            }
            MatrixProduct.Multiply(p, v.Slice(first, length), mixed.Slice(first, length));
        }
        MatrixProduct.AddMultiply(mixed, layout.Output(parameters, block), x);
    }

    public void Backward(float[] parameters, BlockState state, Shard shard, Matrix dx)
    {
        int hidden = shape.Hidden, length = shape.SequenceLength, size = shard.Tokens * hidden;
        Matrix input = shard.Of(state.AttentionInput, hidden), attention = shard.Of(state.Attention, length);
        Matrix q = shard.Of(state.Queries, hidden), k = shard.Of(state.Keys, hidden), v = shard.Of(state.Values, hidden);
        Matrix dMixed = new(new float[size], hidden), dInput = new(new float[size], hidden);
        Matrix dq = new(new float[size], hidden), dk = new(new float[size], hidden), dv = new(new float[size], hidden);
        Matrix dp = new(new float[length * length], length);

        MatrixProduct.AddTransposedMultiply(shard.Of(state.Mixed, hidden), dx, layout.Output(shard.Gradient, block));
        MatrixProduct.MultiplyTransposed(dx, layout.Output(parameters, block), dMixed);
        for (int first = 0; first < dx.Rows; first += length)
        {
            Matrix p = attention.Slice(first, length);
            MatrixProduct.AddTransposedMultiply(p, dMixed.Slice(first, length), dv.Slice(first, length));
            MatrixProduct.MultiplyTransposed(dMixed.Slice(first, length), v.Slice(first, length), dp);
            for (int row = 0; row < length; row++) Functions.SoftmaxGradient(p[row], dp[row]);
            TensorPrimitives.Multiply(dp.Values, _scale, dp.Values);
            MatrixProduct.Multiply(dp, k.Slice(first, length), dq.Slice(first, length));
            MatrixProduct.AddTransposedMultiply(dp, q.Slice(first, length), dk.Slice(first, length));
        }
        MatrixProduct.AddTransposedMultiply(input, dq, layout.Query(shard.Gradient, block));
        MatrixProduct.AddTransposedMultiply(input, dk, layout.Key(shard.Gradient, block));
        MatrixProduct.AddTransposedMultiply(input, dv, layout.Value(shard.Gradient, block));
        MatrixProduct.AddMultiplyTransposed(dq, layout.Query(parameters, block), dInput);
        MatrixProduct.AddMultiplyTransposed(dk, layout.Key(parameters, block), dInput);
        MatrixProduct.AddMultiplyTransposed(dv, layout.Value(parameters, block), dInput);
        Functions.AddNormalizeGradient(dInput, input, shard.Part(state.AttentionInverseRms), dx);
    }
}

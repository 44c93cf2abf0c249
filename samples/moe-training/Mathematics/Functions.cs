using System.Numerics.Tensors;

namespace MoeTraining;

/// <summary>The functions between the matrices, each with its derivative.</summary>
internal static class Functions
{
    private const float Epsilon = 1e-5f;

    /// <summary>y = x / rms(x) by rows. It has no gain of its own: the matrix that follows can learn it.</summary>
    public static void Normalize(Matrix x, Matrix y, Span<float> inverseRms)
    {
        for (int row = 0; row < x.Rows; row++)
        {
            inverseRms[row] = 1 / MathF.Sqrt(Sums.Dot(x[row], x[row]) / x.Columns + Epsilon);
            TensorPrimitives.Multiply(x[row], inverseRms[row], y[row]);
        }
    }

    /// <summary>dx += (dy − y·mean(y∘dy)) / rms(x)</summary>
    public static void AddNormalizeGradient(Matrix dy, Matrix y, ReadOnlySpan<float> inverseRms, Matrix dx)
    {
        for (int row = 0; row < y.Rows; row++)
        {
            float mean = Sums.Dot(y[row], dy[row]) / y.Columns;
            TensorPrimitives.MultiplyAdd(dy[row], inverseRms[row], dx[row], dx[row]);
            TensorPrimitives.MultiplyAdd(y[row], -mean * inverseRms[row], dx[row], dx[row]);
        }
    }

    /// <summary>values = exp(values) / Σ exp(values); returns log Σ exp(values).</summary>
    public static float Softmax(Span<float> values)
    {
        float max = TensorPrimitives.Max<float>(values);
        TensorPrimitives.Subtract(values, max, values);
        TensorPrimitives.Exp(values, values);
        float sum = Sums.Sum(values);
        TensorPrimitives.Multiply(values, 1 / sum, values);
        return max + MathF.Log(sum);
    }

    /// <summary>dp becomes the gradient before the softmax that gave p: p∘(dp − p·dp)</summary>
    public static void SoftmaxGradient(ReadOnlySpan<float> p, Span<float> dp)
    {
        TensorPrimitives.Subtract(dp, Sums.Dot(p, dp), dp);
        TensorPrimitives.Multiply(dp, p, dp);
    }
}

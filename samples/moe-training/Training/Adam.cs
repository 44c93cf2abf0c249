using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace MoeTraining;

/// <summary>The Adam optimizer (Kingma and Ba, 2015) for one array of parameters, whose length is a multiple of 8.</summary>
internal sealed class Adam(float[] parameters)
{
    private const float Decay1 = 0.9f;
    private const float Decay2 = 0.99f;
    private const float Epsilon = 1e-8f;

    private readonly float[] _mean = new float[parameters.Length];
    private readonly float[] _square = new float[parameters.Length];

    /// <param name="gradient">The gradient; may be longer than the parameters.</param>
    /// <param name="rate">The learning rate.</param>
    /// <param name="step">Counts from 1.</param>
    public void Update(ReadOnlySpan<float> gradient, float rate, int step)
    {
        float correction1 = rate / (1 - MathF.Pow(Decay1, step)), correction2 = 1 / (1 - MathF.Pow(Decay2, step));
        Span<Vector256<float>> value = Vectors(parameters), mean = Vectors(_mean), square = Vectors(_square);
        ReadOnlySpan<Vector256<float>> slope = MemoryMarshal.Cast<float, Vector256<float>>(gradient);
        for (int i = 0; i < value.Length; i++)
        {
            mean[i] = Decay1 * mean[i] + (1 - Decay1) * slope[i];
            square[i] = Decay2 * square[i] + (1 - Decay2) * slope[i] * slope[i];
            value[i] -= correction1 * mean[i] / (Vector256.Sqrt(correction2 * square[i]) + Vector256.Create(Epsilon));
        }
    }

    private static Span<Vector256<float>> Vectors(float[] values) => MemoryMarshal.Cast<float, Vector256<float>>(values.AsSpan());
}

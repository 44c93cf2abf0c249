using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace MoeTraining;

/// <summary>
/// Sums in a fixed order. <c>TensorPrimitives.Sum</c> and <c>Dot</c> first walk to an aligned address, so their order, and with
/// it the last bit, changes with where the garbage collector put an array.
/// </summary>
internal static class Sums
{
    public static float Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        ReadOnlySpan<Vector256<float>> left = MemoryMarshal.Cast<float, Vector256<float>>(a);
        ReadOnlySpan<Vector256<float>> right = MemoryMarshal.Cast<float, Vector256<float>>(b);
        Vector256<float> lanes = Vector256<float>.Zero;
        for (int i = 0; i < left.Length; i++) lanes = Vector256.FusedMultiplyAdd(left[i], right[i], lanes);
        float sum = Vector256.Sum(lanes);
        for (int i = left.Length * Vector256<float>.Count; i < a.Length; i++) sum = MathF.FusedMultiplyAdd(a[i], b[i], sum);
        return sum;
    }

    public static float Sum(ReadOnlySpan<float> values)
    {
        ReadOnlySpan<Vector256<float>> vectors = MemoryMarshal.Cast<float, Vector256<float>>(values);
        Vector256<float> lanes = Vector256<float>.Zero;
        foreach (Vector256<float> vector in vectors) lanes += vector;
        float sum = Vector256.Sum(lanes);
        foreach (float value in values[(vectors.Length * Vector256<float>.Count)..]) sum += value;
        return sum;
    }
}

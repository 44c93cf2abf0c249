namespace MoeTraining;

/// <summary>How far the losses of two runs agree.</summary>
internal sealed record Agreement(int Steps, int FirstDifferentStep, float LargestDifference)
{
    private const float Tolerance = 1e-3f;

    public bool IsExact => FirstDifferentStep == 0;

    public bool IsClose => LargestDifference <= Tolerance;

    public string Verdict => (IsExact, IsClose) switch
    {
        (true, _) => $"The two curves agree bit for bit in all {Steps} steps.",
        (_, true) => $"The two curves agree within {Tolerance}: the largest difference is {LargestDifference:G3}, the first at step {FirstDifferentStep}.",
        _ => $"The two curves DIFFER by up to {LargestDifference:G3}, more than {Tolerance}; the first difference is at step {FirstDifferentStep}.",
    };

    public static Agreement Of(TrainingRun a, TrainingRun b)
    {
        int first = 0;
        float largest = 0;
        for (int i = 0; i < Math.Max(a.Losses.Count, b.Losses.Count); i++)
        {
            bool hasBoth = i < a.Losses.Count && i < b.Losses.Count;
            if (hasBoth && BitConverter.SingleToInt32Bits(a.Losses[i]) == BitConverter.SingleToInt32Bits(b.Losses[i])) continue;
            if (first == 0) first = i + 1;
            float difference = hasBoth ? Math.Abs(a.Losses[i] - b.Losses[i]) : float.PositiveInfinity;
            largest = float.IsNaN(difference) ? float.PositiveInfinity : Math.Max(largest, difference);
        }
        return new Agreement(a.Losses.Count, first, largest);
    }
}

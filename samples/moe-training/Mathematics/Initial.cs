namespace MoeTraining;

internal static class Initial
{
    /// <summary>Draws evenly from an interval around zero with the given standard deviation.</summary>
    public static void Fill(Random random, Span<float> values, float deviation)
    {
        float bound = deviation * MathF.Sqrt(3);
        foreach (ref float value in values) value = (2 * random.NextSingle() - 1) * bound;
    }
}

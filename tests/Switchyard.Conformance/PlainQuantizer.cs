namespace Switchyard.Conformance;

/// <summary>Quantizes a row in the plainest way, as <see cref="Float8Scaling"/> says: what quantization on the way is held against.</summary>
internal static class PlainQuantizer
{
    /// <summary>What rows become.</summary>
    public static ScaledFormat FormatOf(int hidden, Float8Scaling scaling)
    {
        int groups = (hidden + Float8Scales.GroupSize - 1) / Float8Scales.GroupSize;
        return scaling == Float8Scaling.Packed
            ? new ScaledFormat(ElementType.Float8E4M3, hidden, ElementType.Int32, (groups + 3) / 4)
            : new ScaledFormat(ElementType.Float8E4M3, hidden, ElementType.Single, groups);
    }

    /// <summary>The bytes of a row's codes, then those of its scales.</summary>
    public static byte[] Quantize<T>(T[] row, Float8Scaling scaling)
        where T : unmanaged
    {
        float[][] groups = [.. row.Select(ToSingle).Chunk(Float8Scales.GroupSize)];
        (float Scale, float Factor)[] scales = [.. groups.Select(group => ScaleOf(group, scaling))];
        IEnumerable<byte> codes = groups.SelectMany((group, i) => group.Select(value => Float8E4M3.FromSingle(value * scales[i].Factor).Bits));
        IEnumerable<byte> scaleBytes = scaling == Float8Scaling.Packed
            ? scales.Select(each => Math.ILogB(each.Scale) + 127).Chunk(4).SelectMany(four => Enumerable.Range(0, 4).Select(i => (byte)four.ElementAtOrDefault(i)))
            : scales.SelectMany(each => BitConverter.GetBytes(each.Scale));
        return [.. codes, .. scaleBytes];
    }

    private static (float Scale, float Factor) ScaleOf(float[] group, Float8Scaling scaling)
    {
        float magnitude = 1e-4f;
        foreach (float value in group.Where(float.IsFinite)) magnitude = Math.Max(magnitude, Math.Abs(value));
        if (scaling == Float8Scaling.Single) return (magnitude / 448, 448 / magnitude);
        float power = MathF.ScaleB(1, -30);
        while (power < magnitude / 448) power *= 2;
        return (power, 1 / power);
    }

    private static float ToSingle<T>(T value) => value switch
    {
        BFloat16 number => number.ToSingle(),
        Half number => (float)number,
        _ => (float)(object)value!,
    };
}

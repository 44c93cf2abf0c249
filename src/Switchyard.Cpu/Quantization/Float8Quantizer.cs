using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu.Quantization;

/// <summary>
/// Quantizes rows to <see cref="Float8E4M3"/> with a scale for each <see cref="Float8Scales.GroupSize"/> channels of a row, and back.
/// </summary>
/// <remarks>
/// <para>
/// <see cref="Float8Scaling"/> has the arithmetic. Back: code × scale in single precision, rounded once more to the type asked for; to
/// <see cref="Half"/>, large values become infinite.
/// </para>
/// <para>
/// Elements are <see cref="BFloat16"/>, <see cref="Half"/> or <see cref="float"/>. Rows are adjacent; spans may start at any address and
/// must not overlap; those that are written may be longer than needed, and what is not needed, gaps of the layout too, is left as it was.
/// Nothing is allocated; calls may run on several threads at once.
/// </para>
/// </remarks>
public static class Float8Quantizer
{
    /// <summary>Quantizes rows, with scales of type <see cref="float"/>.</summary>
    /// <param name="source">Rows × hidden elements.</param>
    /// <param name="hidden">Elements of a row, 1 to <see cref="Limits.MaxHidden"/>.</param>
    /// <param name="destination">Rows × hidden codes.</param>
    /// <param name="scales"><see cref="Float8Scales.Count"/> scales.</param>
    /// <param name="scaling">Which numbers may be scales: <see cref="Float8Scaling.Single"/> or <see cref="Float8Scaling.PowerOfTwo"/>.</param>
    /// <param name="layout">How the scales are arranged.</param>
    /// <exception cref="ArgumentException">An argument is out of range, or a span has not the elements it needs.</exception>
    public static void Quantize<T>(
        ReadOnlySpan<T> source,
        int hidden,
        Span<Float8E4M3> destination,
        Span<float> scales,
        Float8Scaling scaling,
        ScaleLayout layout)
        where T : unmanaged
    {
        if (scaling is not (Float8Scaling.Single or Float8Scaling.PowerOfTwo))
            throw new ArgumentOutOfRangeException(nameof(scaling), scaling, "scaling must be Single or PowerOfTwo; packed scales are integers.");
        Quantize(source, hidden, destination, scales, scaling, layout, VectorWidths.Best);
    }

    /// <summary>Quantizes rows, with packed scales.</summary>
    /// <param name="source">Rows × hidden elements.</param>
    /// <param name="hidden">Elements of a row, 1 to <see cref="Limits.MaxHidden"/>.</param>
    /// <param name="destination">Rows × hidden codes.</param>
    /// <param name="scales"><see cref="Float8Scales.PackedCount"/> integers.</param>
    /// <param name="layout">How the integers are arranged.</param>
    /// <exception cref="ArgumentException">An argument is out of range, or a span has not the elements it needs.</exception>
    public static void Quantize<T>(
        ReadOnlySpan<T> source, int hidden, Span<Float8E4M3> destination, Span<int> scales, ScaleLayout layout)
        where T : unmanaged => Quantize(source, hidden, destination, scales, Float8Scaling.Packed, layout, VectorWidths.Best);

    /// <summary>Restores rows, with scales of type <see cref="float"/>.</summary>
    /// <param name="source">Rows × hidden codes.</param>
    /// <param name="hidden">Elements of a row, 1 to <see cref="Limits.MaxHidden"/>.</param>
    /// <param name="scales"><see cref="Float8Scales.Count"/> scales.</param>
    /// <param name="destination">Rows × hidden elements.</param>
    /// <param name="layout">How the scales are arranged.</param>
    /// <exception cref="ArgumentException">An argument is out of range, or a span has not the elements it needs.</exception>
    public static void Dequantize<T>(
        ReadOnlySpan<Float8E4M3> source,
        int hidden,
        ReadOnlySpan<float> scales,
        Span<T> destination,
        ScaleLayout layout)
        where T : unmanaged => Dequantize(source, hidden, scales, destination, layout, VectorWidths.Best);

    /// <summary>Restores rows, with packed scales.</summary>
    /// <param name="source">Rows × hidden codes.</param>
    /// <param name="hidden">Elements of a row, 1 to <see cref="Limits.MaxHidden"/>.</param>
    /// <param name="scales"><see cref="Float8Scales.PackedCount"/> integers.</param>
    /// <param name="destination">Rows × hidden elements.</param>
    /// <param name="layout">How the integers are arranged.</param>
    /// <exception cref="ArgumentException">An argument is out of range, or a span has not the elements it needs.</exception>
    public static void Dequantize<T>(
        ReadOnlySpan<Float8E4M3> source,
        int hidden,
        ReadOnlySpan<int> scales,
        Span<T> destination,
        ScaleLayout layout)
        where T : unmanaged => Dequantize(source, hidden, scales, destination, layout, VectorWidths.Best);

    internal static void Quantize<T, TEntry>(
        ReadOnlySpan<T> source,
        int hidden,
        Span<Float8E4M3> destination,
        Span<TEntry> scales,
        Float8Scaling scaling,
        ScaleLayout layout,
        VectorWidth width)
        where T : unmanaged
        where TEntry : unmanaged
    {
        ScaleGrid grid = RequireGrid<T, TEntry>(source.Length, hidden, destination.Length, scales.Length, layout);
        width.Run(new QuantizeLoop<T, TEntry>(source, destination, scales, scaling, grid));
    }

    internal static void Dequantize<T, TEntry>(
        ReadOnlySpan<Float8E4M3> source,
        int hidden,
        ReadOnlySpan<TEntry> scales,
        Span<T> destination,
        ScaleLayout layout,
        VectorWidth width)
        where T : unmanaged
        where TEntry : unmanaged
    {
        ScaleGrid grid = RequireGrid<T, TEntry>(source.Length, hidden, destination.Length, scales.Length, layout);
        width.Run(new DequantizeLoop<T, TEntry>(source, scales, destination, grid));
    }

    private static ScaleGrid RequireGrid<T, TEntry>(int source, int hidden, int destination, int scales, ScaleLayout layout)
        where T : unmanaged
        where TEntry : unmanaged
    {
        if (typeof(T) != typeof(BFloat16) && typeof(T) != typeof(Half) && typeof(T) != typeof(float))
            throw new ArgumentException($"Elements are {typeof(T)}; they must be BFloat16, Half or float.", nameof(T));
        ScaleGrid grid = ScaleGrid.Create<TEntry>(source / Math.Max(hidden, 1), hidden, layout);
        if (source % hidden != 0)
            throw new ArgumentException($"source has {source} elements, not a multiple of hidden = {hidden}.", nameof(source));
        if (destination < source)
            throw new ArgumentException($"destination has {destination} elements; source has {source}.", nameof(destination));
        if (scales < grid.Length)
            throw new ArgumentException(
                $"scales has {scales} elements; {grid.Rows} rows of {grid.Columns} in {layout} need {grid.Length}.", nameof(scales));
        return grid;
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu.Quantization;

/// <summary>
/// Converts elements between <see cref="BFloat16"/>, <see cref="Half"/> and <see cref="float"/>, each bit for bit as its single
/// conversion does: widening is exact; narrowing rounds once, to the nearest value, ties to even, and what is too large becomes infinite.
/// A NaN stays a NaN of its sign, a quiet one wherever a conversion rounds or <see cref="Half"/> takes part. All take
/// spans at any address that do not overlap, convert every source element, allocate nothing and may run on several threads at once.
/// </summary>
public static class ElementConversion
{
    /// <summary>Widens, exactly.</summary>
    /// <exception cref="ArgumentException"><paramref name="destination"/> is shorter than <paramref name="source"/>.</exception>
    public static void Convert(ReadOnlySpan<BFloat16> source, Span<float> destination) => Convert(source, destination, VectorWidths.Best);

    /// <inheritdoc cref="Convert(ReadOnlySpan{BFloat16}, Span{float})"/>
    public static void Convert(ReadOnlySpan<Half> source, Span<float> destination) => Convert(source, destination, VectorWidths.Best);

    /// <summary>Rounds to the nearest value, ties to even.</summary>
    /// <exception cref="ArgumentException"><paramref name="destination"/> is shorter than <paramref name="source"/>.</exception>
    public static void Convert(ReadOnlySpan<float> source, Span<BFloat16> destination) => Convert(source, destination, VectorWidths.Best);

    /// <inheritdoc cref="Convert(ReadOnlySpan{float}, Span{BFloat16})"/>
    public static void Convert(ReadOnlySpan<float> source, Span<Half> destination) => Convert(source, destination, VectorWidths.Best);

    /// <inheritdoc cref="Convert(ReadOnlySpan{float}, Span{BFloat16})"/>
    public static void Convert(ReadOnlySpan<BFloat16> source, Span<Half> destination) => Convert(source, destination, VectorWidths.Best);

    /// <inheritdoc cref="Convert(ReadOnlySpan{float}, Span{BFloat16})"/>
    public static void Convert(ReadOnlySpan<Half> source, Span<BFloat16> destination) => Convert(source, destination, VectorWidths.Best);

    internal static void Convert<TSource, TTarget>(ReadOnlySpan<TSource> source, Span<TTarget> destination, VectorWidth width)
        where TSource : unmanaged
        where TTarget : unmanaged
    {
        if (destination.Length < source.Length)
            throw new ArgumentException($"destination has {destination.Length} elements; source has {source.Length}.", nameof(destination));
        width.Run(new Conversion<TSource, TTarget>(source, destination));
    }

    private readonly ref struct Conversion<TSource, TTarget>(ReadOnlySpan<TSource> source, Span<TTarget> destination) : ILaneLoop
        where TSource : unmanaged
        where TTarget : unmanaged
    {
        private readonly ReadOnlySpan<TSource> _source = source;
        private readonly Span<TTarget> _destination = destination;

        public void Run<TLanes>()
            where TLanes : struct, ILanes<TLanes>
        {
            ref TSource from = ref MemoryMarshal.GetReference(_source);
            ref TTarget to = ref MemoryMarshal.GetReference(_destination);
            int i = 0;
            for (; i <= _source.Length - TLanes.Count; i += TLanes.Count)
                Elements.Store(Elements.Load<TLanes, TSource>(in Unsafe.Add(ref from, i)), ref Unsafe.Add(ref to, i));
            for (; i < _source.Length; i++) _destination[i] = Elements.FromSingle<TTarget>(Elements.ToSingle(_source[i]));
        }
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu.Quantization;

/// <summary>Quantizes and restores the channels that share one scale. The loops over single elements define the result.</summary>
internal static class Float8Group
{
    private const uint Infinity = 0x7F80_0000;
    private const uint MagnitudeMask = 0x7FFF_FFFF;

    /// <summary>The magnitude that a group has at least, for its scale: 10^-4, as in DeepEP. Zeros get a finite scale.</summary>
    private const float LeastMagnitude = 1e-4f;

    /// <returns>The scale.</returns>
    public static float Quantize<TLanes, T>(ReadOnlySpan<T> source, Span<Float8E4M3> destination, Float8Scaling scaling)
        where TLanes : struct, ILanes<TLanes>
        where T : unmanaged
    {
        float magnitude = Math.Max(GreatestFinite<TLanes, T>(source), LeastMagnitude);
        float scale = magnitude / Float8E4M3.MaxValue, factor = Float8E4M3.MaxValue / magnitude;
        if (scaling != Float8Scaling.Single)
        {
            scale = RoundUpToPowerOfTwo(scale);
            factor = 1 / scale;
        }
        Multiply<TLanes, T, Float8E4M3>(source, factor, destination);
        return scale;
    }

    /// <summary>Multiplies each element in single precision and rounds the product to the target's type.</summary>
    public static void Multiply<TLanes, TSource, TTarget>(ReadOnlySpan<TSource> source, float factor, Span<TTarget> destination)
        where TLanes : struct, ILanes<TLanes>
        where TSource : unmanaged
        where TTarget : unmanaged
    {
        ref TSource from = ref MemoryMarshal.GetReference(source);
        ref TTarget to = ref MemoryMarshal.GetReference(destination);
        TLanes factors = TLanes.Create(factor);
        int i = 0;
        for (; i <= source.Length - TLanes.Count; i += TLanes.Count)
            Elements.Store(Elements.Load<TLanes, TSource>(in Unsafe.Add(ref from, i)) * factors, ref Unsafe.Add(ref to, i));
        for (; i < source.Length; i++) destination[i] = Elements.FromSingle<TTarget>(Elements.ToSingle(source[i]) * factor);
    }

    /// <summary>The greatest magnitude of a finite element; 0 if there is none.</summary>
    private static float GreatestFinite<TLanes, T>(ReadOnlySpan<T> source)
        where TLanes : struct, ILanes<TLanes>
        where T : unmanaged
    {
        float greatest = Greatest<TLanes, T>(source);
        if (float.IsFinite(greatest)) return greatest;
        greatest = 0;
        foreach (T element in source)
        {
            float magnitude = Math.Abs(Elements.ToSingle(element));
            if (float.IsFinite(magnitude)) greatest = Math.Max(greatest, magnitude);
        }
        return greatest;
    }

    /// <summary>The greatest magnitude in the order of bits: as of numbers, above them infinity, above it NaNs.</summary>
    private static float Greatest<TLanes, T>(ReadOnlySpan<T> source)
        where TLanes : struct, ILanes<TLanes>
        where T : unmanaged
    {
        ref T from = ref MemoryMarshal.GetReference(source);
        TLanes lanes = TLanes.Create(0u);
        int i = 0;
        for (; i <= source.Length - TLanes.Count; i += TLanes.Count)
            lanes = TLanes.MaxBits(lanes, Elements.Load<TLanes, T>(in Unsafe.Add(ref from, i)) & TLanes.Create(MagnitudeMask));
        int greatest = lanes.MaxLaneBits();
        for (; i < source.Length; i++)
            greatest = Math.Max(greatest, BitConverter.SingleToInt32Bits(Math.Abs(Elements.ToSingle(source[i]))));
        return BitConverter.Int32BitsToSingle(greatest);
    }

    /// <summary>Carries into the exponent unless the fraction is zero. Exact: a quotient above a power of two never rounds to it.</summary>
    private static float RoundUpToPowerOfTwo(float value) =>
        BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(value) + 0x7F_FFFF) & Infinity);
}

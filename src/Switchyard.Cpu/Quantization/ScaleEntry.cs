using System.Runtime.CompilerServices;

namespace Switchyard.Cpu.Quantization;

/// <summary>
/// An entry of a scale buffer: a <see cref="float"/> is one scale, an <see cref="int"/> holds four powers of two as biased exponents. The
/// type is known when a loop is compiled, so the tests below cost nothing.
/// </summary>
internal static class ScaleEntry
{
    /// <summary>The entry with a scale put into a place that is still zero.</summary>
    public static TEntry With<TEntry>(TEntry entry, float scale, int place)
        where TEntry : unmanaged
    {
        if (typeof(TEntry) == typeof(float)) return Unsafe.BitCast<float, TEntry>(scale);
        uint exponent = BitConverter.SingleToUInt32Bits(scale) >> 23;
        return Unsafe.BitCast<uint, TEntry>(Unsafe.BitCast<TEntry, uint>(entry) | (exponent << (8 * place)));
    }

    /// <summary>The scale in a place; a packed one is 2^(e - 127), or a NaN where e is 255, as UE8M0 is defined.</summary>
    public static float At<TEntry>(TEntry entry, int place)
        where TEntry : unmanaged
    {
        if (typeof(TEntry) == typeof(float)) return Unsafe.BitCast<TEntry, float>(entry);
        uint exponent = (Unsafe.BitCast<TEntry, uint>(entry) >> (8 * place)) & 0xFF;
        return exponent switch
        {
            0 => BitConverter.UInt32BitsToSingle(1u << 22),
            0xFF => float.NaN,
            _ => BitConverter.UInt32BitsToSingle(exponent << 23),
        };
    }
}

using System.Runtime.CompilerServices;

namespace Switchyard.Cpu.Vectors;

/// <summary>
/// <see cref="Half"/> in vectors; bit for bit what the framework's conversions of one number give: rounding to nearest, ties to even;
/// what is too large becomes infinite; a NaN becomes quiet and keeps its sign and upper fraction bits.
/// </summary>
internal static class HalfLanes
{
    private const int LackingBits = 23 - 10;
    private const uint One = 0x3C00;
    private const uint Infinity = 0x7C00;
    private const uint QuietNaN = 0x7E00;

    /// <summary>2^112: 127 is the bias of a float's exponent, 15 that of a half's.</summary>
    private const float BiasDifference = 5.192296858534828e33f;

    /// <summary>2^-14 as a <see cref="float"/>.</summary>
    private const uint LeastNormal = (127 - 14) << 23;

    /// <summary>2^16: infinity, if its exponent is read as that of a number.</summary>
    private const uint Overflow = (127 + 16) << 23;

    /// <param name="bits">Half bits, in the low half of each lane.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Widen<TLanes>(TLanes bits)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes magnitude = bits & TLanes.Create(0x7FFFu);
        TLanes sign = (bits ^ magnitude) << 16;
        // Fraction and exponent stand where a float has them, the exponent too low by the difference of the biases; subnormals come out right too.
        TLanes finite = (magnitude << LackingBits) * TLanes.Create(BiasDifference);
        // The greatest exponent of one format becomes that of the other; adding 0 makes a NaN quiet.
        TLanes special = (finite | TLanes.Create(0x7F80_0000u)) + TLanes.Create(0f);
        return sign | TLanes.SelectLess(magnitude, TLanes.Create(Infinity), finite, special);
    }

    /// <returns>Half bits, in the low half of each lane; the rest is undefined.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Narrow<TLanes>(TLanes values)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes magnitude = values & TLanes.Create(0x7FFF_FFFFu);
        TLanes sign = (values ^ magnitude) >>> 16;
        TLanes number = SmallFloats.Narrow(TLanes.MinBits(magnitude, TLanes.Create(Overflow)), LackingBits, LeastNormal, One);
        TLanes nan = ((magnitude >>> LackingBits) & TLanes.Create(0x3FFu)) | TLanes.Create(QuietNaN);
        return sign | TLanes.SelectNaN(values, nan, number);
    }
}

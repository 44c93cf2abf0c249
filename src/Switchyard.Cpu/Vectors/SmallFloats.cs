using System.Runtime.CompilerServices;

namespace Switchyard.Cpu.Vectors;

/// <summary>
/// What the formats with subnormals and fewer exponent bits than a <see cref="float"/> have in common: magnitudes, without sign and
/// NaN. A format is given by the fraction bits it lacks and by its least normal number, as the bits of a float.
/// </summary>
internal static class SmallFloats
{
    private const int FractionBits = 23;
    private const uint ExponentMask = 0x7F80_0000;

    /// <summary>The exact value of finite magnitudes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Widen<TLanes>(TLanes magnitude, int lackingBits, uint leastNormal)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes least = TLanes.Create(leastNormal);
        TLanes shifted = magnitude << lackingBits;
        TLanes normal = TLanes.AddBits(shifted, TLanes.Create(leastNormal - (1u << FractionBits)));
        // The fraction above the least normal number, less that number, is the subnormal's value.
        TLanes subnormal = TLanes.AddBits(shifted, least) - least;
        return TLanes.SelectLess(magnitude, TLanes.Create(1u << (FractionBits - lackingBits)), subnormal, normal);
    }

    /// <summary>Rounds to nearest, ties to even. No magnitude may round to more than twice the format's greatest power of two.</summary>
    /// <param name="magnitude">Values without sign.</param>
    /// <param name="lackingBits">Fraction bits that a float has and the format has not.</param>
    /// <param name="leastNormal">The format's least normal number, as the bits of a float.</param>
    /// <param name="one">The format's bits of 1.</param>
    /// <returns>The format's bits; above them, the lane is undefined.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Narrow<TLanes>(TLanes magnitude, int lackingBits, uint leastNormal, uint one)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes power = TLanes.MaxBits(magnitude, TLanes.Create(leastNormal)) & TLanes.Create(ExponentMask);
        // 2^lackingBits times the power of two below, a float's steps are the format's: the addition rounds to and counts them. The
        // exponent then counts whole powers, and the bits of 1 make up for the difference of the two exponents' biases.
        TLanes rounder = TLanes.AddBits(power, TLanes.Create(((uint)lackingBits << FractionBits) + one));
        return TLanes.AddBits(magnitude + rounder, power >>> lackingBits);
    }
}

using System.Runtime.CompilerServices;

namespace Switchyard.Cpu.Vectors;

/// <summary>Float8 E4M3 in vectors; bit for bit what <see cref="Float8E4M3"/> does with one number.</summary>
internal static class Float8Lanes
{
    private const int LackingBits = 23 - 3;
    private const uint One = 0x38;
    private const uint NaN = 0x7F;

    /// <summary>2^-6 as a <see cref="float"/>.</summary>
    private const uint LeastNormal = (127 - 6) << 23;

    /// <param name="bits">E4M3 bits, in the low byte of each lane.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Widen<TLanes>(TLanes bits)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes magnitude = bits & TLanes.Create(0x7Fu);
        TLanes sign = (bits ^ magnitude) << 24;
        TLanes number = SmallFloats.Widen(magnitude, LackingBits, LeastNormal);
        return sign | TLanes.SelectLess(magnitude, TLanes.Create(NaN), number, TLanes.Create(0x7FC0_0000u));
    }

    /// <returns>E4M3 bits, in the low byte of each lane; the rest is undefined.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Narrow<TLanes>(TLanes values)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes magnitude = values & TLanes.Create(0x7FFF_FFFFu);
        TLanes sign = (values ^ magnitude) >>> 24;
        TLanes number = SmallFloats.Narrow(TLanes.MinBits(magnitude, TLanes.Create(Float8E4M3.MaxValue)), LackingBits, LeastNormal, One);
        return sign | TLanes.SelectNaN(values, TLanes.Create(NaN), number);
    }
}

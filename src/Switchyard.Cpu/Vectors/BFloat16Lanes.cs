using System.Runtime.CompilerServices;

namespace Switchyard.Cpu.Vectors;

/// <summary>BFloat16 in vectors; bit for bit what <see cref="BFloat16"/> does with one number.</summary>
internal static class BFloat16Lanes
{
    /// <param name="bits">BFloat16 bits, in the low half of each lane.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Widen<TLanes>(TLanes bits)
        where TLanes : struct, ILanes<TLanes> => bits << 16;

    /// <returns>BFloat16 bits, in the low half of each lane.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Narrow<TLanes>(TLanes values)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes upper = values >>> 16;
        TLanes half = TLanes.AddBits(TLanes.Create(0x7FFFu), upper & TLanes.Create(1u));
        return TLanes.SelectNaN(values, upper | TLanes.Create(0x40u), TLanes.AddBits(values, half) >>> 16);
    }
}

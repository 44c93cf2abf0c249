using System.Runtime.CompilerServices;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu;

/// <summary>Four vectors of elements, in whatever order of elements is quickest to load and store.</summary>
internal unsafe interface IReducerBlock
{
    static abstract void Load<TLanes>(byte* source, out TLanes a, out TLanes b, out TLanes c, out TLanes d)
        where TLanes : struct, ILanes<TLanes>;

    /// <param name="destination">Where the elements go; for streaming a multiple of a vector's bytes.</param>
    /// <param name="a">What Load gave, summed.</param>
    /// <param name="b">As above.</param>
    /// <param name="c">As above.</param>
    /// <param name="d">As above.</param>
    /// <param name="streams">Whether to store past the caches.</param>
    static abstract void Store<TLanes>(byte* destination, TLanes a, TLanes b, TLanes c, TLanes d, bool streams)
        where TLanes : struct, ILanes<TLanes>;
}

/// <summary>Singles in their order.</summary>
internal readonly unsafe struct SingleBlock : IReducerBlock
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load<TLanes>(byte* source, out TLanes a, out TLanes b, out TLanes c, out TLanes d)
        where TLanes : struct, ILanes<TLanes>
    {
        float* elements = (float*)source;
        a = TLanes.Load(in elements[0]);
        b = TLanes.Load(in elements[TLanes.Count]);
        c = TLanes.Load(in elements[2 * TLanes.Count]);
        d = TLanes.Load(in elements[3 * TLanes.Count]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TLanes>(byte* destination, TLanes a, TLanes b, TLanes c, TLanes d, bool streams)
        where TLanes : struct, ILanes<TLanes>
    {
        float* elements = (float*)destination;
        if (streams)
        {
            a.StoreStreaming(ref elements[0]);
            b.StoreStreaming(ref elements[TLanes.Count]);
            c.StoreStreaming(ref elements[2 * TLanes.Count]);
            d.StoreStreaming(ref elements[3 * TLanes.Count]);
            return;
        }
        a.Store(ref elements[0]);
        b.Store(ref elements[TLanes.Count]);
        c.Store(ref elements[2 * TLanes.Count]);
        d.Store(ref elements[3 * TLanes.Count]);
    }
}

/// <summary>
/// BFloat16 two at a time: a 32-bit lane holds an even element below an odd one, and each half widens where it stands. So a block is two whole
/// vectors of memory, and nothing crosses lanes.
/// </summary>
internal readonly unsafe struct BFloat16Block : IReducerBlock
{
    private const uint OddHalf = 0xFFFF_0000;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load<TLanes>(byte* source, out TLanes a, out TLanes b, out TLanes c, out TLanes d)
        where TLanes : struct, ILanes<TLanes>
    {
        TLanes odd = TLanes.Create(OddHalf);
        TLanes first = TLanes.Load(in *(float*)source), second = TLanes.Load(in ((float*)source)[TLanes.Count]);
        (a, b) = (first << 16, first & odd);
        (c, d) = (second << 16, second & odd);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TLanes>(byte* destination, TLanes a, TLanes b, TLanes c, TLanes d, bool streams)
        where TLanes : struct, ILanes<TLanes>
    {
        ref float first = ref *(float*)destination;
        ref float second = ref ((float*)destination)[TLanes.Count];
        // Rounding by addition would carry a NaN into another number; NaNs are rare, so one test serves the whole block.
        if (TLanes.AnyNaN(a, b, c, d))
        {
            StoreWithNaN(ref first, a, b);
            StoreWithNaN(ref second, c, d);
            return;
        }
        TLanes odd = TLanes.Create(OddHalf);
        TLanes low = (Rounded(a) >>> 16) | (Rounded(b) & odd), high = (Rounded(c) >>> 16) | (Rounded(d) & odd);
        if (streams)
        {
            low.StoreStreaming(ref first);
            high.StoreStreaming(ref second);
        }
        else
        {
            low.Store(ref first);
            high.Store(ref second);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void StoreWithNaN<TLanes>(ref float destination, TLanes even, TLanes odd)
        where TLanes : struct, ILanes<TLanes> =>
        (BFloat16Lanes.Narrow(even) | (BFloat16Lanes.Narrow(odd) << 16)).Store(ref destination);

    /// <summary>To nearest, ties to even, in the upper half of each lane; not for NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TLanes Rounded<TLanes>(TLanes values)
        where TLanes : struct, ILanes<TLanes> =>
        TLanes.AddBits(values, TLanes.AddBits(TLanes.Create(0x7FFFu), (values >>> 16) & TLanes.Create(1u)));
}

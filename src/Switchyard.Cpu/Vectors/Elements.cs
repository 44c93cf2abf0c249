using System.Runtime.CompilerServices;

namespace Switchyard.Cpu.Vectors;

/// <summary>
/// The element types that loops convert to and from <see cref="float"/>: <see cref="BFloat16"/>, <see cref="Half"/>,
/// <see cref="float"/> and <see cref="Float8E4M3"/>. The type is known when a loop is compiled, so the tests below cost nothing.
/// </summary>
internal static class Elements
{
    /// <summary>Loads <see cref="ILanes{TSelf}.Count"/> elements, exactly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes, T>(ref readonly T source)
        where TLanes : struct, ILanes<TLanes>
        where T : unmanaged
    {
        ref T element = ref Unsafe.AsRef(in source);
        if (typeof(T) == typeof(BFloat16)) return BFloat16Lanes.Widen(TLanes.LoadWidened(in Unsafe.As<T, ushort>(ref element)));
        if (typeof(T) == typeof(Half)) return HalfLanes.Widen(TLanes.LoadWidened(in Unsafe.As<T, ushort>(ref element)));
        if (typeof(T) == typeof(Float8E4M3)) return Float8Lanes.Widen(TLanes.LoadWidened(in Unsafe.As<T, byte>(ref element)));
        if (typeof(T) == typeof(float)) return TLanes.Load(in Unsafe.As<T, float>(ref element));
        throw NoElement<T>();
    }

    /// <summary>Rounds the lanes and stores <see cref="ILanes{TSelf}.Count"/> elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TLanes, T>(TLanes values, ref T destination)
        where TLanes : struct, ILanes<TLanes>
        where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16)) BFloat16Lanes.Narrow(values).StoreNarrowed(ref Unsafe.As<T, ushort>(ref destination));
        else if (typeof(T) == typeof(Half)) HalfLanes.Narrow(values).StoreNarrowed(ref Unsafe.As<T, ushort>(ref destination));
        else if (typeof(T) == typeof(Float8E4M3)) Float8Lanes.Narrow(values).StoreNarrowed(ref Unsafe.As<T, byte>(ref destination));
        else if (typeof(T) == typeof(float)) values.Store(ref Unsafe.As<T, float>(ref destination));
        else throw NoElement<T>();
    }

    /// <summary>The exact value of one element.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float ToSingle<T>(T element)
        where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16)) return Unsafe.As<T, BFloat16>(ref element).ToSingle();
        if (typeof(T) == typeof(Half)) return (float)Unsafe.As<T, Half>(ref element);
        if (typeof(T) == typeof(Float8E4M3)) return Unsafe.As<T, Float8E4M3>(ref element).ToSingle();
        if (typeof(T) == typeof(float)) return Unsafe.As<T, float>(ref element);
        throw NoElement<T>();
    }

    /// <summary>One element, rounded.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T FromSingle<T>(float value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16)) return Unsafe.BitCast<BFloat16, T>(BFloat16.FromSingle(value));
        if (typeof(T) == typeof(Half)) return Unsafe.BitCast<Half, T>((Half)value);
        if (typeof(T) == typeof(Float8E4M3)) return Unsafe.BitCast<Float8E4M3, T>(Float8E4M3.FromSingle(value));
        if (typeof(T) == typeof(float)) return Unsafe.BitCast<float, T>(value);
        throw NoElement<T>();
    }

    private static NotSupportedException NoElement<T>() => new($"{typeof(T)} is not an element type.");
}

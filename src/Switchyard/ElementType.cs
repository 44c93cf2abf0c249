namespace Switchyard;

/// <summary>The type of the elements of a tensor argument.</summary>
public enum ElementType : byte
{
    /// <summary>No element type: an absent tensor.</summary>
    None = 0,

    /// <summary>Brain floating point, 16 bits: the upper half of a <see cref="float"/>. Rows can be dispatched and combined.</summary>
    BFloat16 = 1,

    /// <summary>IEEE 754 binary32. Rows can be dispatched and combined; weights always have this type.</summary>
    Single = 2,

    /// <summary>32-bit signed integers, for top-k indices.</summary>
    Int32 = 3,

    /// <summary>64-bit signed integers, for top-k indices.</summary>
    Int64 = 4,

    /// <summary>IEEE 754 binary16. Rows can be dispatched and combined.</summary>
    Half = 5,

    /// <summary>8-bit floating point with 4 exponent and 3 fraction bits. Rows can be dispatched, with scales, and are not combined.</summary>
    Float8E4M3 = 6,

    /// <summary>Bytes that nobody here interprets: packed rows of any format, and scales. Rows can be dispatched.</summary>
    Byte = 7,
}

/// <summary>Facts about element types.</summary>
public static class ElementTypes
{
    /// <summary>The bytes one element takes.</summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="element"/> has no size.</exception>
    public static int SizeInBytes(this ElementType element) => element switch
    {
        ElementType.Float8E4M3 or ElementType.Byte => 1,
        ElementType.BFloat16 or ElementType.Half => 2,
        ElementType.Single or ElementType.Int32 => 4,
        ElementType.Int64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(element), element, "This element type has no size."),
    };

    /// <summary>Whether rows of this element can be dispatched and reduced.</summary>
    public static bool IsReducible(this ElementType element) => element is ElementType.BFloat16 or ElementType.Half or ElementType.Single;

    internal static ElementType Of<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16)) return ElementType.BFloat16;
        if (typeof(T) == typeof(float)) return ElementType.Single;
        if (typeof(T) == typeof(int)) return ElementType.Int32;
        if (typeof(T) == typeof(long)) return ElementType.Int64;
        if (typeof(T) == typeof(Half)) return ElementType.Half;
        if (typeof(T) == typeof(Float8E4M3)) return ElementType.Float8E4M3;
        if (typeof(T) == typeof(byte)) return ElementType.Byte;
        throw new ArgumentException($"{typeof(T)} is not an element type; use BFloat16, Half, float, Float8E4M3, byte, int or long.");
    }
}

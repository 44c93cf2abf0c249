using System.Globalization;
using System.Runtime.InteropServices;

namespace Switchyard;

/// <summary>Brain floating point: sign, 8 exponent bits and 7 fraction bits, the upper half of a <see cref="float"/>. Blittable, 2 bytes.</summary>
/// <param name="Bits">The 16 bits as stored.</param>
[StructLayout(LayoutKind.Sequential, Size = 2)]
public readonly record struct BFloat16(ushort Bits)
{
    /// <summary>Rounds to the nearest value, ties to even; a NaN stays a (quiet) NaN.</summary>
    public static BFloat16 FromSingle(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value)
            ? new((ushort)((bits >> 16) | 0x40))
            : new((ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
    }

    /// <summary>The exact value as a <see cref="float"/>.</summary>
    public float ToSingle() => BitConverter.UInt32BitsToSingle((uint)Bits << 16);

    /// <inheritdoc cref="FromSingle"/>
    public static explicit operator BFloat16(float value) => FromSingle(value);

    /// <inheritdoc cref="ToSingle"/>
    public static implicit operator float(BFloat16 value) => value.ToSingle();

    /// <inheritdoc/>
    public override string ToString() => ToSingle().ToString(CultureInfo.InvariantCulture);
}

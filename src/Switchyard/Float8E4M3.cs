using System.Globalization;
using System.Runtime.InteropServices;

namespace Switchyard;

/// <summary>
/// 8-bit floating point: sign, 4 exponent bits (bias 7) and 3 fraction bits, in the variant of the OCP 8-bit floating point
/// specification that frameworks call E4M3FN: no infinities, magnitudes up to 448, subnormals in steps of 2^-9, NaN in 0x7F and 0xFF.
/// Blittable, 1 byte.
/// </summary>
/// <param name="Bits">The 8 bits as stored.</param>
[StructLayout(LayoutKind.Sequential, Size = 1)]
public readonly record struct Float8E4M3(byte Bits)
{
    /// <summary>The greatest magnitude.</summary>
    public const float MaxValue = 448;

    private const int DroppedBits = 20;
    private const uint ExponentDifference = (127 - 7) << 23;

    /// <summary>The least normal number.</summary>
    private const float LeastNormal = 1f / 64;

    /// <summary>2^14, where a float's steps are those of subnormal numbers here, 2^-9: adding it rounds to and counts them.</summary>
    private const float SubnormalRounder = 1 << 14;

    /// <summary>
    /// Rounds to the nearest value, ties to even. Saturates: what is larger, infinities too, becomes ±<see cref="MaxValue"/>.
    /// A NaN stays a NaN of its sign.
    /// </summary>
    public static Float8E4M3 FromSingle(float value)
    {
        uint sign = (BitConverter.SingleToUInt32Bits(value) >> 24) & 0x80;
        float magnitude = Math.Abs(value);
        uint bits = BitConverter.SingleToUInt32Bits(magnitude);
        uint code = magnitude switch
        {
            float.NaN => 0x7F,
            >= MaxValue => 0x7E,
            < LeastNormal => (byte)BitConverter.SingleToUInt32Bits(magnitude + SubnormalRounder),
            _ => (bits - ExponentDifference + 0x7_FFFF + ((bits >> DroppedBits) & 1)) >> DroppedBits,
        };
        return new((byte)(sign | code));
    }

    /// <summary>The exact value as a <see cref="float"/>.</summary>
    public float ToSingle()
    {
        int exponent = (Bits >> 3) & 0xF, fraction = Bits & 7;
        float magnitude = (exponent, fraction) switch
        {
            (0xF, 7) => float.NaN,
            (0, _) => fraction * (1f / 512),
            _ => BitConverter.UInt32BitsToSingle(((uint)(Bits & 0x7F) << DroppedBits) + ExponentDifference),
        };
        return BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(magnitude) & 0x7FFF_FFFF) | ((uint)(Bits & 0x80) << 24));
    }

    /// <inheritdoc cref="FromSingle"/>
    public static explicit operator Float8E4M3(float value) => FromSingle(value);

    /// <inheritdoc cref="ToSingle"/>
    public static implicit operator float(Float8E4M3 value) => value.ToSingle();

    /// <inheritdoc/>
    public override string ToString() => ToSingle().ToString(CultureInfo.InvariantCulture);
}

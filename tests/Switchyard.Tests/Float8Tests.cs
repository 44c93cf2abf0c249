using System.Runtime.CompilerServices;
using CsCheck;
using Xunit;

namespace Switchyard.Tests;

public class Float8Tests
{
    [Fact]
    public void A_number_takes_one_byte() => Assert.Equal(1, Unsafe.SizeOf<Float8E4M3>());

    [Fact]
    public void Every_code_has_the_specified_value_and_survives_the_way_to_single_and_back()
    {
        for (int code = 0; code <= byte.MaxValue; code++)
        {
            var number = new Float8E4M3((byte)code);
            float value = number.ToSingle();
            Assert.Equal(Value(code), value);
            Assert.Equal(code >= 0x80, float.IsNegative(value));
            Assert.Equal(number, Float8E4M3.FromSingle(value));
        }
        Assert.Equal(448, new Float8E4M3(0x7E).ToSingle());
        Assert.Equal(1, new Float8E4M3(0x38).ToSingle());
    }

    [Fact]
    public void Numbers_round_to_nearest_even_and_saturate() => Gen.OneOf(
        Gen.Single,
        Gen.Int[0, 0x43F0_0000].Select(BitConverter.Int32BitsToSingle),
        Gen.Float[-500, 500],
        Gen.Float[-0.05f, 0.05f]).Sample(value => Assert.Equal(Nearest(value), Float8E4M3.FromSingle(value).Bits), iter: 20_000);

    [Fact]
    public void Ties_and_their_neighbours_round_as_they_should()
    {
        for (int code = 0; code < 0x7E; code++)
        {
            float tie = (float)((Value(code) + Value(code + 1)) / 2);
            foreach (float value in new[] { tie, MathF.BitIncrement(tie), MathF.BitDecrement(tie) })
            {
                Assert.Equal(Nearest(value), Float8E4M3.FromSingle(value).Bits);
                Assert.Equal(Nearest(-value), Float8E4M3.FromSingle(-value).Bits);
            }
        }
    }

    [Theory]
    [InlineData(float.PositiveInfinity, 0x7E)]
    [InlineData(float.NegativeInfinity, 0xFE)]
    [InlineData(float.MaxValue, 0x7E)]
    [InlineData(float.MinValue, 0xFE)]
    [InlineData(449, 0x7E)]
    [InlineData(-0f, 0x80)]
    [InlineData(float.Epsilon, 0)]
    [InlineData(0.0009765625f, 0)]
    [InlineData(0.0009765626f, 1)]
    public void Edges_are_the_documented_ones(float value, byte code) => Assert.Equal(code, Float8E4M3.FromSingle(value).Bits);

    [Theory]
    [InlineData(0x7FC0_0000u, 0x7F)]
    [InlineData(0xFFC0_0000u, 0xFF)]
    [InlineData(0x7F80_0001u, 0x7F)]
    [InlineData(0xFFFF_FFFFu, 0xFF)]
    public void A_NaN_stays_a_NaN_of_its_sign(uint bits, byte code) =>
        Assert.Equal(code, Float8E4M3.FromSingle(BitConverter.UInt32BitsToSingle(bits)).Bits);

    /// <summary>What the specification says, in its own terms.</summary>
    private static double Value(int code)
    {
        int exponent = (code >> 3) & 0xF, fraction = code & 7;
        double magnitude = (code & 0x7F) == 0x7F ? double.NaN
            : exponent == 0 ? Math.Pow(2, -6) * fraction / 8
            : Math.Pow(2, exponent - 7) * (1 + (fraction / 8.0));
        return code < 0x80 ? magnitude : -magnitude;
    }

    /// <summary>The code of the nearest magnitude, the even one of two; by trying all.</summary>
    private static byte Nearest(float value)
    {
        int sign = float.IsNegative(value) ? 0x80 : 0;
        if (float.IsNaN(value)) return (byte)(sign | 0x7F);
        double magnitude = Math.Min(Math.Abs((double)value), 448);
        int best = Enumerable.Range(0, 0x7F).MinBy(code => (Math.Abs(Value(code) - magnitude), code & 1));
        return (byte)(sign | best);
    }
}

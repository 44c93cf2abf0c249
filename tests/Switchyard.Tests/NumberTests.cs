using CsCheck;
using Xunit;

namespace Switchyard.Tests;

public class NumberTests
{
    [Fact]
    public void Every_bfloat16_survives_the_way_to_single_and_back()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var value = new BFloat16((ushort)bits);
            BFloat16 back = BFloat16.FromSingle(value.ToSingle());
            if (float.IsNaN(value)) Assert.True(float.IsNaN(back));
            else Assert.Equal(value, back);
        }
    }

    [Fact]
    public void Bfloat16_rounds_to_nearest_even() => Gen.Single.Sample(value =>
    {
        float rounded = BFloat16.FromSingle(value);
        if (float.IsNaN(value))
        {
            Assert.True(float.IsNaN(rounded));
            return;
        }
        if (!float.IsFinite(rounded)) return;
        ushort bits = BFloat16.FromSingle(value).Bits;
        foreach (int step in new[] { -1, 1 })
        {
            float neighbour = new BFloat16((ushort)(bits + step));
            if (!float.IsFinite(neighbour) || MathF.Sign(neighbour) * MathF.Sign(rounded) < 0) continue;
            double distance = Math.Abs((double)value - rounded), other = Math.Abs((double)value - neighbour);
            Assert.True(distance < other || (distance == other && bits % 2 == 0), $"{value} became {rounded}, not {neighbour}");
        }
    });
}

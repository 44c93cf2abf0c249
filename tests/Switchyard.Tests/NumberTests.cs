using CsCheck;
using Switchyard.Cpu;
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

    [Theory]
    [InlineData(ElementType.Single)]
    [InlineData(ElementType.BFloat16)]
    public unsafe void Reduction_is_the_same_whether_an_element_falls_into_a_vector_or_the_rest(ElementType element) =>
        Gen.Select(Gen.Int[1, 70], Gen.Int[0, 9], Gen.Int[0, int.MaxValue - 1]).Sample((length, count, seed) =>
        {
            var random = new Random(seed);
            int size = element.SizeInBytes();
            byte[] rows = new byte[Math.Max(1, length * count * size)];
            random.NextBytes(rows);
            byte[] whole = new byte[length * size], piecewise = new byte[length * size];
            var reducer = RowReducer.For(element);
            fixed (byte* from = rows, to = whole, pieces = piecewise)
            {
                byte** addresses = stackalloc byte*[9];
                for (int row = 0; row < count; row++) addresses[row] = from + (row * length * size);
                reducer.Reduce(addresses, count, to, length);
                for (int i = 0; i < length; i++)
                {
                    for (int row = 0; row < count; row++) addresses[row] = from + (((row * length) + i) * size);
                    reducer.Reduce(addresses, count, pieces + (i * size), 1);
                }
            }
            for (int i = 0; i < length; i++)
            {
                float left = At(whole, i, element), right = At(piecewise, i, element);
                Assert.True(left.Equals(right), $"element {i}: {left} and {right}");
            }
        }, iter: 500);

    private static float At(byte[] elements, int index, ElementType element) => element == ElementType.Single
        ? BitConverter.ToSingle(elements, index * 4)
        : new BFloat16(BitConverter.ToUInt16(elements, index * 2));
}

using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Switchyard.Cpu;

/// <summary>Adds rows element by element in single precision, in the order given, and rounds once. The first row starts the sum.</summary>
internal abstract unsafe class RowReducer
{
    public static RowReducer For(ElementType element) => element == ElementType.BFloat16 ? new OfBFloat16() : new OfSingle();

    /// <param name="rows">The rows' addresses.</param>
    /// <param name="count">How many; none gives zeros.</param>
    /// <param name="output">The sum; must not overlap the rows.</param>
    /// <param name="length">Elements of a row.</param>
    public abstract void Reduce(byte** rows, int count, byte* output, int length);

    private sealed class OfSingle : RowReducer
    {
        public override void Reduce(byte** rows, int count, byte* output, int length)
        {
            float* sum = (float*)output;
            if (count == 0)
            {
                new Span<float>(sum, length).Clear();
                return;
            }
            int i = 0;
            for (; i <= length - Vector<float>.Count; i += Vector<float>.Count)
            {
                Vector<float> total = Unsafe.ReadUnaligned<Vector<float>>((float*)rows[0] + i);
                for (int row = 1; row < count; row++) total += Unsafe.ReadUnaligned<Vector<float>>((float*)rows[row] + i);
                Unsafe.WriteUnaligned(sum + i, total);
            }
            for (; i < length; i++)
            {
                float total = ((float*)rows[0])[i];
                for (int row = 1; row < count; row++) total += ((float*)rows[row])[i];
                sum[i] = total;
            }
        }
    }

    private sealed class OfBFloat16 : RowReducer
    {
        public override void Reduce(byte** rows, int count, byte* output, int length)
        {
            ushort* sum = (ushort*)output;
            if (count == 0)
            {
                new Span<ushort>(sum, length).Clear();
                return;
            }
            int i = 0;
            for (; i <= length - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
            {
                (Vector256<float> lower, Vector256<float> upper) = Load((ushort*)rows[0] + i);
                for (int row = 1; row < count; row++)
                {
                    (Vector256<float> low, Vector256<float> high) = Load((ushort*)rows[row] + i);
                    lower += low;
                    upper += high;
                }
                Vector256.Narrow(Round(lower), Round(upper)).Store(sum + i);
            }
            for (; i < length; i++)
            {
                float total = ((BFloat16*)rows[0])[i];
                for (int row = 1; row < count; row++) total += ((BFloat16*)rows[row])[i];
                sum[i] = BFloat16.FromSingle(total).Bits;
            }
        }

        private static (Vector256<float> Lower, Vector256<float> Upper) Load(ushort* elements)
        {
            (Vector256<uint> lower, Vector256<uint> upper) = Vector256.Widen(Vector256.Load(elements));
            return ((lower << 16).AsSingle(), (upper << 16).AsSingle());
        }

        /// <summary>As <see cref="BFloat16.FromSingle"/>: to nearest, ties to even; a NaN stays a quiet NaN.</summary>
        private static Vector256<uint> Round(Vector256<float> values)
        {
            Vector256<uint> bits = values.AsUInt32();
            Vector256<uint> upper = bits >> 16;
            Vector256<uint> rounded = (bits + Vector256.Create(0x7FFFu) + (upper & Vector256<uint>.One)) >> 16;
            return Vector256.ConditionalSelect(Vector256.IsNaN(values).AsUInt32(), upper | Vector256.Create(0x40u), rounded);
        }
    }
}

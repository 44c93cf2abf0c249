using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using Switchyard.Arena;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu;

/// <summary>Reduces block by block, each contribution of a block read once and the sum kept in registers.</summary>
internal sealed unsafe class BlockReducer<TLanes, TBlock, T> : RowReducer
    where TLanes : struct, ILanes<TLanes>
    where TBlock : struct, IReducerBlock
    where T : unmanaged
{
    /// <summary>Reads run this far ahead: processors stop their own reading ahead at the end of a page.</summary>
    private const int PrefetchBytes = 4096;

    private static int BlockLength => 4 * TLanes.Count;

    private static int BlockBytes => BlockLength * sizeof(T);

    public override void Reduce(byte** rows, float* weights, int count, byte* output, int length, bool streams)
    {
        if (count == 0)
        {
            new Span<T>(output, length).Clear();
            return;
        }
        if (length < BlockLength)
        {
            ReduceScalars(rows, weights, count, output, length);
            return;
        }
        // An output between elements never comes to where streaming stores can go.
        streams &= ((nint)output & (sizeof(T) - 1)) == 0;
        // The first and the last block may overlap those between, which start where streaming stores can: such sums are formed twice.
        int at = streams ? FirstAligned(output) : 0;
        int end = at + ((length - at) / BlockLength * BlockLength);
        if (at > 0) ReduceBlocks(rows, weights, count, output, 0, BlockLength, streams: false);
        ReduceBlocks(rows, weights, count, output, at, end, streams);
        if (end < length) ReduceBlocks(rows, weights, count, output, length - BlockLength, length, streams: false);
    }

    /// <summary>The first element of the output whose address is a multiple of a vector's bytes.</summary>
    private static int FirstAligned(byte* output) => (int)(-(nint)output & ((TLanes.Count * sizeof(float)) - 1)) / sizeof(T);

    private static void ReduceBlocks(byte** rows, float* weights, int count, byte* output, int from, int to, bool streams)
    {
        if (weights == null && count == 2) ReduceTwo(rows[0], rows[1], output, from, to, streams);
        else if (weights == null) ReduceBlocks<Unweighted>(rows, weights, count, output, from, to, streams);
        else ReduceBlocks<Weighted>(rows, weights, count, output, from, to, streams);
    }

    /// <summary>Kept apart, so that the compiler's budget for inlining goes to this loop alone.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ReduceBlocks<TWeighting>(byte** rows, float* weights, int count, byte* output, int from, int to, bool streams)
        where TWeighting : struct, IWeighting
    {
        for (nint at = (nint)from * sizeof(T), end = (nint)to * sizeof(T); at < end; at += BlockBytes)
        {
            TBlock.Load(rows[0] + at, out TLanes a, out TLanes b, out TLanes c, out TLanes d);
            Prefetch(rows[0] + at);
            if (TWeighting.IsWeighted)
            {
                TLanes weight = TLanes.Create(weights[0]);
                (a, b, c, d) = (a * weight, b * weight, c * weight, d * weight);
            }
            for (int row = 1; row < count; row++)
            {
                TBlock.Load(rows[row] + at, out TLanes e, out TLanes f, out TLanes g, out TLanes h);
                Prefetch(rows[row] + at);
                if (TWeighting.IsWeighted)
                {
                    TLanes weight = TLanes.Create(weights[row]);
                    (e, f, g, h) = (e * weight, f * weight, g * weight, h * weight);
                }
                (a, b, c, d) = (a + e, b + f, c + g, d + h);
            }
            TBlock.Store(output + at, a, b, c, d, streams);
        }
    }

    /// <summary>Two rows without weights, as most tokens have where there are few ranks, with no loop within the loop.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ReduceTwo(byte* first, byte* second, byte* output, int from, int to, bool streams)
    {
        for (nint at = (nint)from * sizeof(T), end = (nint)to * sizeof(T); at < end; at += BlockBytes)
        {
            TBlock.Load(first + at, out TLanes a, out TLanes b, out TLanes c, out TLanes d);
            Prefetch(first + at);
            TBlock.Load(second + at, out TLanes e, out TLanes f, out TLanes g, out TLanes h);
            Prefetch(second + at);
            TBlock.Store(output + at, a + e, b + f, c + g, d + h, streams);
        }
    }

    /// <summary>Every line of the block that comes later. The comparisons are known when the loop is compiled.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* block)
    {
        byte* ahead = block + PrefetchBytes;
        Sse.Prefetch0(ahead);
        if (BlockBytes > ArenaLayout.LineBytes) Sse.Prefetch0(ahead + ArenaLayout.LineBytes);
        if (BlockBytes > 2 * ArenaLayout.LineBytes) Sse.Prefetch0(ahead + (2 * ArenaLayout.LineBytes));
        if (BlockBytes > 3 * ArenaLayout.LineBytes) Sse.Prefetch0(ahead + (3 * ArenaLayout.LineBytes));
    }

    private static void ReduceScalars(byte** rows, float* weights, int count, byte* output, int length)
    {
        for (int i = 0; i < length; i++)
        {
            float total = Term(rows, weights, 0, i);
            for (int row = 1; row < count; row++) total += Term(rows, weights, row, i);
            ((T*)output)[i] = Elements.FromSingle<T>(total);
        }
    }

    private static float Term(byte** rows, float* weights, int row, int i)
    {
        float value = Elements.ToSingle(((T*)rows[row])[i]);
        return weights == null ? value : value * weights[row];
    }

    /// <summary>Whether rows are multiplied by weights, known when a loop is compiled.</summary>
    private interface IWeighting
    {
        static abstract bool IsWeighted { get; }
    }

    private readonly struct Weighted : IWeighting
    {
        public static bool IsWeighted => true;
    }

    private readonly struct Unweighted : IWeighting
    {
        public static bool IsWeighted => false;
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu;

/// <summary>Copies rows past the caches, or through them.</summary>
internal static unsafe class RowCopy
{
    private const int Unroll = 4;

    /// <summary>Copies through the caches.</summary>
    public static void Plain(byte* source, byte* destination, nint bytes) => Buffer.MemoryCopy(source, destination, bytes, bytes);

    /// <summary>Copies with stores that stream. The thread must call <see cref="Fence"/> before it tells anyone.</summary>
    public static void Streaming(byte* source, byte* destination, nint bytes, VectorWidth width) =>
        width.Run(new StreamingLoop(source, destination, bytes));

    /// <summary>
    /// As <see cref="Streaming"/>, to two places with one load: so reads come evenly between the writes, which the memory takes better than a row
    /// that is read and written, then a row that is only written.
    /// </summary>
    public static void StreamingTwice(byte* source, byte* destination, byte* second, nint bytes, VectorWidth width) =>
        width.Run(new TwoStreamsLoop(source, destination, second, bytes));

    /// <summary>Orders streamed rows before whatever is written next.</summary>
    public static void Fence() => Sse.StoreFence();

    private readonly struct StreamingLoop(byte* source, byte* destination, nint bytes) : ILaneLoop
    {
        private readonly byte* _source = source;
        private readonly byte* _destination = destination;
        private readonly nint _bytes = bytes;

        public void Run<TLanes>()
            where TLanes : struct, ILanes<TLanes>
        {
            nint vectorBytes = TLanes.Count * sizeof(float), blockBytes = Unroll * vectorBytes;
            // What lies before the first and behind the last aligned block is copied as it comes.
            nint at = Math.Min(_bytes, -(nint)_destination & (vectorBytes - 1));
            Plain(_source, _destination, at);
            for (; at <= _bytes - blockBytes; at += blockBytes)
            {
                byte* from = _source + at;
                TLanes a = Load<TLanes>(from), b = Load<TLanes>(from + vectorBytes);
                TLanes c = Load<TLanes>(from + (2 * vectorBytes)), d = Load<TLanes>(from + (3 * vectorBytes));
                Store(_destination + at, a, b, c, d);
            }
            Plain(_source + at, _destination + at, _bytes - at);
        }
    }

    private readonly struct TwoStreamsLoop(byte* source, byte* destination, byte* second, nint bytes) : ILaneLoop
    {
        private readonly byte* _source = source;
        private readonly byte* _destination = destination;
        private readonly byte* _second = second;
        private readonly nint _bytes = bytes;

        public void Run<TLanes>()
            where TLanes : struct, ILanes<TLanes>
        {
            nint vectorBytes = TLanes.Count * sizeof(float), blockBytes = Unroll * vectorBytes;
            if (((_destination - _second) & (vectorBytes - 1)) != 0)
            {
                // No block is aligned in both.
                new StreamingLoop(_source, _destination, _bytes).Run<TLanes>();
                new StreamingLoop(_source, _second, _bytes).Run<TLanes>();
                return;
            }
            nint at = Math.Min(_bytes, -(nint)_destination & (vectorBytes - 1));
            Plain(_source, _destination, at);
            Plain(_source, _second, at);
            for (; at <= _bytes - blockBytes; at += blockBytes)
            {
                byte* from = _source + at;
                TLanes a = Load<TLanes>(from), b = Load<TLanes>(from + vectorBytes);
                TLanes c = Load<TLanes>(from + (2 * vectorBytes)), d = Load<TLanes>(from + (3 * vectorBytes));
                Store(_destination + at, a, b, c, d);
                Store(_second + at, a, b, c, d);
            }
            Plain(_source + at, _destination + at, _bytes - at);
            Plain(_source + at, _second + at, _bytes - at);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TLanes Load<TLanes>(byte* from)
        where TLanes : struct, ILanes<TLanes> => TLanes.Load(in *(float*)from);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<TLanes>(byte* to, TLanes a, TLanes b, TLanes c, TLanes d)
        where TLanes : struct, ILanes<TLanes>
    {
        nint vectorBytes = TLanes.Count * sizeof(float);
        a.StoreStreaming(ref *(float*)to);
        b.StoreStreaming(ref *(float*)(to + vectorBytes));
        c.StoreStreaming(ref *(float*)(to + (2 * vectorBytes)));
        d.StoreStreaming(ref *(float*)(to + (3 * vectorBytes)));
    }
}

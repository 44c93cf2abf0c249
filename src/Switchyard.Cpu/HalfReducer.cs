using System.Runtime.CompilerServices;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu;

/// <summary>
/// Reduces rows of <see cref="Half"/>: a tile of the sum at a time, in single precision in the first cache, so that each loop has one conversion.
/// Several in one loop exhaust the compiler's budget for inlining, and every operation becomes a call.
/// </summary>
internal sealed unsafe class HalfReducer<TLanes> : RowReducer
    where TLanes : struct, ILanes<TLanes>
{
    private const int TileLength = 1024;

    /// <summary>Sums are written through the caches in any case: conversion, not memory, sets the pace.</summary>
    public override void Reduce(byte** rows, float* weights, int count, byte* output, int length, bool streams)
    {
        if (count == 0)
        {
            new Span<Half>(output, length).Clear();
            return;
        }
        float* tile = stackalloc float[TileLength];
        for (int at = 0; at < length; at += TileLength)
        {
            int tileLength = Math.Min(TileLength, length - at);
            Begin((Half*)rows[0] + at, WeightOf(weights, 0), tile, tileLength);
            for (int row = 1; row < count; row++) Add((Half*)rows[row] + at, WeightOf(weights, row), tile, tileLength);
            Round(tile, (Half*)output + at, tileLength);
        }
    }

    /// <summary>A product with 1 is exact.</summary>
    private static float WeightOf(float* weights, int row) => weights == null ? 1 : weights[row];

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Begin(Half* row, float weight, float* tile, int length)
    {
        int i = 0;
        for (; i <= length - TLanes.Count; i += TLanes.Count)
            (Elements.Load<TLanes, Half>(in row[i]) * TLanes.Create(weight)).Store(ref tile[i]);
        for (; i < length; i++) tile[i] = (float)row[i] * weight;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Add(Half* row, float weight, float* tile, int length)
    {
        int i = 0;
        for (; i <= length - TLanes.Count; i += TLanes.Count)
            (TLanes.Load(in tile[i]) + (Elements.Load<TLanes, Half>(in row[i]) * TLanes.Create(weight))).Store(ref tile[i]);
        for (; i < length; i++) tile[i] += (float)row[i] * weight;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Round(float* tile, Half* output, int length)
    {
        int i = 0;
        for (; i <= length - TLanes.Count; i += TLanes.Count) Elements.Store(TLanes.Load(in tile[i]), ref output[i]);
        for (; i < length; i++) output[i] = (Half)tile[i];
    }
}

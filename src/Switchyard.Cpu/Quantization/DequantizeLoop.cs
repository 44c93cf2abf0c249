using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu.Quantization;

/// <summary>Restores the rows of a grid of scales.</summary>
internal readonly ref struct DequantizeLoop<T, TEntry>(
    ReadOnlySpan<Float8E4M3> source, ReadOnlySpan<TEntry> scales, Span<T> destination, ScaleGrid grid) : ILaneLoop
    where T : unmanaged
    where TEntry : unmanaged
{
    private readonly ReadOnlySpan<Float8E4M3> _source = source;
    private readonly ReadOnlySpan<TEntry> _scales = scales;
    private readonly Span<T> _destination = destination;

    public void Run<TLanes>()
        where TLanes : struct, ILanes<TLanes>
    {
        for (int row = 0; row < grid.Rows; row++)
        {
            for (int column = 0; column < grid.Columns; column++)
            {
                (int start, int length) = grid.Channels(row, column);
                Dequantize<TLanes>(_source.Slice(start, length), _scales[grid.IndexOf(row, column)], _destination.Slice(start, length));
            }
        }
    }

    /// <summary>Restores the channels of one entry.</summary>
    private static void Dequantize<TLanes>(ReadOnlySpan<Float8E4M3> codes, TEntry entry, Span<T> elements)
        where TLanes : struct, ILanes<TLanes>
    {
        for (int start = 0; start < codes.Length; start += Float8Scales.GroupSize)
        {
            int length = Math.Min(Float8Scales.GroupSize, codes.Length - start);
            float scale = ScaleEntry.At(entry, start / Float8Scales.GroupSize);
            Float8Group.Multiply<TLanes, Float8E4M3, T>(codes.Slice(start, length), scale, elements.Slice(start, length));
        }
    }
}

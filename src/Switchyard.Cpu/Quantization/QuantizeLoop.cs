using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu.Quantization;

/// <summary>Quantizes the rows of a grid of scales.</summary>
internal readonly ref struct QuantizeLoop<T, TEntry>(
    ReadOnlySpan<T> source, Span<Float8E4M3> destination, Span<TEntry> scales, Float8Scaling scaling, ScaleGrid grid) : ILaneLoop
    where T : unmanaged
    where TEntry : unmanaged
{
    private readonly ReadOnlySpan<T> _source = source;
    private readonly Span<Float8E4M3> _destination = destination;
    private readonly Span<TEntry> _scales = scales;

    public void Run<TLanes>()
        where TLanes : struct, ILanes<TLanes>
    {
        for (int row = 0; row < grid.Rows; row++)
        {
            for (int column = 0; column < grid.Columns; column++)
            {
                (int start, int length) = grid.Channels(row, column);
                _scales[grid.IndexOf(row, column)] = Quantize<TLanes>(_source.Slice(start, length), _destination.Slice(start, length));
            }
        }
    }

    /// <summary>Quantizes the channels of one entry.</summary>
    private TEntry Quantize<TLanes>(ReadOnlySpan<T> elements, Span<Float8E4M3> codes)
        where TLanes : struct, ILanes<TLanes>
    {
        TEntry entry = default;
        for (int start = 0; start < elements.Length; start += Float8Scales.GroupSize)
        {
            int length = Math.Min(Float8Scales.GroupSize, elements.Length - start);
            float scale = Float8Group.Quantize<TLanes, T>(elements.Slice(start, length), codes.Slice(start, length), scaling);
            entry = ScaleEntry.With(entry, scale, start / Float8Scales.GroupSize);
        }
        return entry;
    }
}

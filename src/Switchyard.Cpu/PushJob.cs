using Switchyard.Arena;
using Switchyard.Cpu.Vectors;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Writes each token's row, once a destination, to its final place, with its scales and metadata. Items are tokens.</summary>
internal sealed unsafe class PushJob(PeerArenas arenas, VectorWidth width) : ICrewJob
{
    private readonly RowMetadata _metadata = new(arenas);

    public PushCall Call { get; set; }

    /// <summary>Whether rows are written past the caches.</summary>
    public bool Streams { get; set; }

    public void Run(int first, int end)
    {
        PushCall call = Call;
        RowEntries sent = call.Plan.Sent;
        int entry = sent.FirstOf(first);
        for (int token = first; token < end; token++)
        {
            FaultPoints.Pass(FaultPoint.PushToken);
            int firstEntry = entry;
            for (; entry < sent.End[token]; entry++) WriteRow(call, token, sent.Rank[entry], sent.Row[entry]);
            if (call.TopkIndices == null) continue;
            _metadata.Write(call, token, firstEntry);
            if (call.Plan.IsPreReduced) _metadata.WriteGroups(call, token, firstEntry);
        }
        if (Streams) RowCopy.Fence();
    }

    private void WriteRow(in PushCall call, int token, int destination, int row)
    {
        ref readonly RegionLayout region = ref call.Agreement.Regions[destination];
        RowFormat format = region.Shape.Format;
        byte* memory = arenas.Base(destination) + call.Agreement.RegionOffsets[destination];
        byte* rows = memory + ((long)row * format.RowBytes);
        if (Streams) RowCopy.Streaming(call.Rows[token], rows, format.RowBytes, width);
        else RowCopy.Plain(call.Rows[token], rows, format.RowBytes);
        if (format.ScaleBytes > 0) WriteScales(call.Scales[token], memory + region.ScalesOffset, row, region);
    }

    private static void WriteScales(byte* source, byte* scales, int row, in RegionLayout region)
    {
        RowFormat format = region.Shape.Format;
        if (format.ScaleLayout == ScaleLayout.RowMajor)
        {
            RowCopy.Plain(source, scales + ((long)row * format.ScaleBytes), format.ScaleBytes);
            return;
        }
        int size = format.ScaleElement.SizeInBytes();
        long columnBytes = format.ScaleColumnBytes(region.Rows);
        byte* destination = scales + ((long)row * size);
        for (int scale = 0; scale < format.ScalesPerRow; scale++, source += size, destination += columnBytes)
        {
            if (size == sizeof(float)) *(float*)destination = *(float*)source;
            else RowCopy.Plain(source, destination, size);
        }
    }
}

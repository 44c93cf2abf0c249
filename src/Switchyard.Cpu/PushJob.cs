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
        RowFormat format = call.Agreement.Regions[arenas.Rank].Shape.Format;
        int entry = sent.FirstOf(first);
        for (int token = first; token < end; token++)
        {
            FaultPoints.Pass(FaultPoint.PushToken);
            int firstEntry = entry;
            entry = sent.End[token];
            WriteRows(call, format, token, firstEntry, entry);
            if (format.ScaleBytes > 0) WriteScales(call, token, firstEntry, entry);
            if (call.TopkIndices == null) continue;
            _metadata.Write(call, token, firstEntry);
            if (call.Plan.IsPreReduced) _metadata.WriteGroups(call, token, firstEntry);
        }
        if (Streams) RowCopy.Fence();
    }

    private void WriteRows(in PushCall call, RowFormat format, int token, int entry, int end)
    {
        byte* source = call.Rows[token];
        int rowBytes = format.RowBytes;
        for (; entry < end; entry++)
        {
            byte* row = RowOf(call, entry, rowBytes);
            if (!Streams) RowCopy.Plain(source, row, rowBytes);
            else if (entry + 1 < end) RowCopy.StreamingTwice(source, row, RowOf(call, ++entry, rowBytes), rowBytes, width);
            else RowCopy.Streaming(source, row, rowBytes, width);
        }
    }

    private void WriteScales(in PushCall call, int token, int entry, int end)
    {
        for (; entry < end; entry++)
        {
            int destination = call.Plan.Sent.Rank[entry];
            ref readonly RegionLayout region = ref call.Agreement.Regions[destination];
            byte* scales = arenas.Base(destination) + call.Agreement.RegionOffsets[destination] + region.ScalesOffset;
            WriteScales(call.Scales[token], scales, call.Plan.Sent.Row[entry], region);
        }
    }

    private byte* RowOf(in PushCall call, int entry, int rowBytes)
    {
        int destination = call.Plan.Sent.Rank[entry];
        return arenas.Base(destination) + call.Agreement.RegionOffsets[destination] + ((long)call.Plan.Sent.Row[entry] * rowBytes);
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

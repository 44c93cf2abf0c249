using Switchyard.Arena;
using Switchyard.Cpu.Quantization;
using Switchyard.Cpu.Vectors;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Writes each token's row, once a destination, to its final place, with its scales and metadata. Items are tokens.</summary>
internal sealed unsafe class PushJob(PeerArenas arenas, VectorWidth width) : ICrewJob
{
    private readonly RowMetadata _metadata = new(arenas);
    private readonly RowQuantizer _quantizer = new(arenas.Layout.Element, arenas.Layout.Hidden, width);

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
            byte* row = call.Rows[token], scales = call.Scales[token];
            entry = sent.End[token];
            if (call.Quantize != Float8Scaling.None && firstEntry < entry) _quantizer.Quantize(call.Quantize, ref row, ref scales);
            WriteRows(call, format.RowBytes, row, firstEntry, entry);
            if (format.ScaleBytes > 0) WriteScales(call, scales, firstEntry, entry);
            if (call.TopkIndices == null) continue;
            _metadata.Write(call, token, firstEntry);
            if (call.Plan.IsPreReduced) _metadata.WriteGroups(call, token, firstEntry);
        }
        if (Streams) RowCopy.Fence();
    }

    private void WriteRows(in PushCall call, int rowBytes, byte* source, int entry, int end)
    {
        for (; entry < end; entry++)
        {
            byte* row = RowOf(call, entry, rowBytes);
            if (!Streams) RowCopy.Plain(source, row, rowBytes);
            else if (entry + 1 < end) RowCopy.StreamingTwice(source, row, RowOf(call, ++entry, rowBytes), rowBytes, width);
            else RowCopy.Streaming(source, row, rowBytes, width);
        }
    }

    private void WriteScales(in PushCall call, byte* source, int entry, int end)
    {
        for (; entry < end; entry++)
        {
            int destination = call.Plan.Sent.Rank[entry];
            ref readonly RegionLayout region = ref call.Agreement.Regions[destination];
            byte* scales = arenas.Base(destination) + call.Agreement.RegionOffsets[destination] + region.ScalesOffset;
            WriteScales(source, scales, call.Plan.Sent.Row[entry], region);
        }
    }

    private byte* RowOf(in PushCall call, int entry, int rowBytes)
    {
        int destination = call.Plan.Sent.Rank[entry];
        return arenas.Base(destination) + call.Agreement.RegionOffsets[destination] + ((long)call.Plan.Sent.Row[entry] * rowBytes);
    }

    private static void WriteScales(byte* source, byte* scales, int slot, in RegionLayout region)
    {
        RowFormat format = region.Shape.Format;
        if (format.ScaleLayout == ScaleLayout.RowMajor)
        {
            RowCopy.Plain(source, scales + ((long)slot * format.ScaleBytes), format.ScaleBytes);
            return;
        }
        int size = format.ScaleElement.SizeInBytes();
        long columnBytes = format.ScaleColumnBytes(region.Rows);
        byte* destination = scales + ((long)slot * size);
        for (int scale = 0; scale < format.ScalesPerRow; scale++, source += size, destination += columnBytes)
        {
            if (size == sizeof(float)) *(float*)destination = *(float*)source;
            else RowCopy.Plain(source, destination, size);
        }
    }
}

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
        int entry = sent.FirstOf(first);
        for (int token = first; token < end; token++)
        {
            FaultPoints.Pass(FaultPoint.PushToken);
            int firstEntry = entry;
            byte* row = call.Rows[token], scales = call.Scales[token];
            if (call.Quantize != Float8Scaling.None && entry < sent.End[token]) _quantizer.Quantize(call.Quantize, ref row, ref scales);
            for (; entry < sent.End[token]; entry++) WriteRow(call, row, scales, sent.Rank[entry], sent.Row[entry]);
            if (call.TopkIndices == null) continue;
            _metadata.Write(call, token, firstEntry);
            if (call.Plan.IsPreReduced) _metadata.WriteGroups(call, token, firstEntry);
        }
        if (Streams) RowCopy.Fence();
    }

    private void WriteRow(in PushCall call, byte* row, byte* scales, int destination, int slot)
    {
        ref readonly RegionLayout region = ref call.Agreement.Regions[destination];
        RowFormat format = region.Shape.Format;
        byte* memory = arenas.Base(destination) + call.Agreement.RegionOffsets[destination];
        byte* place = memory + ((long)slot * format.RowBytes);
        if (Streams) RowCopy.Streaming(row, place, format.RowBytes, width);
        else RowCopy.Plain(row, place, format.RowBytes);
        if (format.ScaleBytes > 0) WriteScales(scales, memory + region.ScalesOffset, slot, region);
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

using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>This rank's own part in its receive region: what nobody sends, and what it takes over from there.</summary>
internal sealed unsafe class ReceiveRegion(HostProtocol protocol)
{
    private readonly PeerArenas _arenas = protocol.Arenas;

    /// <summary>Gives rows that do not come a source and expert of -1 and weight 0, zeroes padding on request, and tells the counts.</summary>
    public void Prepare(in ReceiveCall call)
    {
        RoutingPlan plan = call.Plan;
        if (plan.Layout == RowLayout.ExpertMajor && plan.Alignment > 1)
        {
            for (int expert = 0; expert < plan.TokensPerExpert.Length; expert++)
            {
                int first = plan.ExpertOffsets[expert] + plan.TokensPerExpert[expert];
                MarkAbsent(call, first, plan.ExpertOffsets[expert + 1]);
                if (call.ZeroPadding) Zero(call, first, plan.ExpertOffsets[expert + 1]);
            }
        }
        MarkAbsent(call, plan.TotalRows[_arenas.Rank], call.Region.Rows);
        if (plan.IsFixedShape && call.HasMetadata) WriteCounts(call);
    }

    /// <summary>Copies the groups that the senders wrote out of memory that they can write, checked.</summary>
    public void TakeGroups(in ReceiveCall call)
    {
        RoutingPlan plan = call.Plan;
        Span<int> groups = plan.RentGroups();
        new ReadOnlySpan<int>(Memory(call) + call.Region.GroupsOffset, groups.Length).CopyTo(groups);
        int group = 0;
        for (int source = 0; source < _arenas.Ranks; source++)
        {
            // Groups are in order of their tokens' ranks.
            for (int end = group + plan.TokensFrom[source]; group < end; group++) CheckGroup(call, groups.Slice(group * plan.TopK, plan.TopK), source);
        }
    }

    private void CheckGroup(in ReceiveCall call, ReadOnlySpan<int> rows, int source)
    {
        long limit = call.Plan.TotalRows[_arenas.Rank];
        foreach (int row in rows)
        {
            if (row == -1) return;
            if (row < 0 || row >= limit) throw protocol.Broken(source, call.Site, limit, row);
        }
    }

    private void MarkAbsent(in ReceiveCall call, long first, long end)
    {
        if (first >= end || !call.HasMetadata) return;
        byte* region = Memory(call);
        long rows = end - first, columnsBytes = sizeof(int) * (long)call.Region.Shape.Columns;
        // -1 is 0xFF in every byte. Not by spans: there may be more than 2³¹ elements.
        NativeMemory.Fill(region + call.Region.SourcesOffset + (first * sizeof(RowSource)), (nuint)(rows * sizeof(RowSource)), 0xFF);
        NativeMemory.Fill(region + call.Region.IndicesOffset + (first * columnsBytes), (nuint)(rows * columnsBytes), 0xFF);
        NativeMemory.Clear(region + call.Region.WeightsOffset + (first * columnsBytes), (nuint)(rows * columnsBytes));
    }

    private void Zero(in ReceiveCall call, long first, long end)
    {
        RowFormat format = call.Region.Shape.Format;
        byte* region = Memory(call), scales = region + call.Region.ScalesOffset;
        NativeMemory.Clear(region + (first * format.RowBytes), (nuint)((end - first) * format.RowBytes));
        if (format.ScaleLayout == ScaleLayout.RowMajor)
        {
            NativeMemory.Clear(scales + (first * format.ScaleBytes), (nuint)((end - first) * format.ScaleBytes));
            return;
        }
        int size = format.ScaleElement.SizeInBytes();
        for (int scale = 0; scale < format.ScalesPerRow; scale++)
            NativeMemory.Clear(scales + (scale * format.ScaleColumnBytes(call.Region.Rows)) + (first * size), (nuint)((end - first) * size));
    }

    private void WriteCounts(in ReceiveCall call)
    {
        RoutingPlan plan = call.Plan;
        var counts = new Span<int>(Memory(call) + call.Region.CountsOffset, call.Region.Shape.CountWords);
        counts[0] = (int)plan.TotalRows[_arenas.Rank];
        plan.TokensPerExpert.CopyTo(counts[1..]);
        Span<int> offsets = counts[(1 + plan.TokensPerExpert.Length)..];
        if (plan.Layout == RowLayout.ExpertMajor) plan.ExpertOffsets.CopyTo(offsets);
        else offsets.Clear();
    }

    private byte* Memory(in ReceiveCall call) => _arenas.Base(_arenas.Rank) + call.RegionOffset;
}

using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Writes each token's row, once a destination, to its final place, with its metadata.</summary>
internal static unsafe class RowPush
{
    public static void Run(PeerArenas arenas, in PushCall call)
    {
        RoutingPlan plan = call.Plan;
        long rowBytes = arenas.Layout.RowBytes;
        int entry = 0;
        for (int token = 0; token < plan.Tokens; token++)
        {
            byte* source = call.Rows + (token * call.RowStrideBytes);
            for (; entry < plan.EntryEnd[token]; entry++)
            {
                int destination = plan.Destination[entry];
                byte* region = arenas.Base(destination) + call.Agreement.RegionOffsets[destination];
                Buffer.MemoryCopy(source, region + (plan.Row[entry] * rowBytes), rowBytes, rowBytes);
                if (call.TopkIndices != null) WriteMetadata(arenas, call, token, entry, region);
            }
        }
    }

    private static void WriteMetadata(PeerArenas arenas, in PushCall call, int token, int entry, byte* region)
    {
        RoutingPlan plan = call.Plan;
        int destination = plan.Destination[entry];
        RegionLayout layout = call.Agreement.Regions[destination];
        long row = plan.Row[entry];
        ((RowSource*)(region + layout.SourcesOffset))[row] = new RowSource(arenas.Rank, token);
        int* indices = (int*)(region + layout.IndicesOffset);
        float* weights = (float*)(region + layout.WeightsOffset);
        int first = token * plan.TopK;
        if (plan.Layout == RowLayout.ExpertMajor)
        {
            int choice = first + plan.Choice[entry];
            indices[row] = call.TopkIndices[choice] - plan.Placement.FirstExpertOf(destination);
            weights[row] = Weight(call, choice);
            return;
        }
        for (int k = 0; k < plan.TopK; k++)
        {
            int expert = call.TopkIndices[first + k];
            bool isThere = expert >= 0 && plan.Placement.RankOf(expert) == destination;
            indices[(row * plan.TopK) + k] = isThere ? expert - plan.Placement.FirstExpertOf(destination) : -1;
            weights[(row * plan.TopK) + k] = isThere ? Weight(call, first + k) : 0;
        }
    }

    private static float Weight(in PushCall call, int choice) => call.TopkWeights == null ? 1 : call.TopkWeights[choice];
}

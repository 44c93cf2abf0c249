using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Reads each token's contributions where they lie and reduces them into the output.</summary>
internal static unsafe class RowPull
{
    public static void Run(PeerArenas arenas, in PullCall call, RowReducer reducer)
    {
        RoutingPlan plan = call.Plan;
        long rowBytes = arenas.Layout.RowBytes;
        byte** contributions = stackalloc byte*[plan.TopK];
        int entry = 0;
        for (int token = 0; token < plan.Tokens; token++)
        {
            int count = 0;
            for (; entry < plan.EntryEnd[token]; entry++)
            {
                int owner = plan.Destination[entry];
                contributions[count++] = arenas.Base(owner) + call.Agreement.RegionOffsets[owner] + (plan.Row[entry] * rowBytes);
            }
            reducer.Reduce(contributions, count, call.Output + (token * call.OutputStrideBytes), arenas.Layout.Hidden);
            if (call.ReducedWeights != null) ReduceWeights(arenas, call, token);
        }
    }

    private static void ReduceWeights(PeerArenas arenas, in PullCall call, int token)
    {
        RoutingPlan plan = call.Plan;
        var reduced = new Span<float>(call.ReducedWeights + ((long)token * plan.TopK), plan.TopK);
        reduced.Clear();
        for (int entry = plan.FirstEntryOf(token); entry < plan.EntryEnd[token]; entry++)
        {
            int owner = plan.Destination[entry];
            float* weights = (float*)(arenas.Base(owner) + call.Agreement.WeightsOffsets[owner]);
            long row = plan.Row[entry];
            if (plan.Layout == RowLayout.ExpertMajor)
            {
                reduced[plan.Choice[entry]] = weights[row];
                continue;
            }
            for (int k = 0; k < plan.TopK; k++) reduced[k] += weights[(row * plan.TopK) + k];
        }
    }
}

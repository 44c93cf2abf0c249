using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Reads each token's contributions where they lie and reduces them into the output. Items are tokens.</summary>
internal sealed unsafe class PullJob(PeerArenas arenas, RowReducer reducer) : ICrewJob
{
    private const int MaxBiases = 2;

    public PullCall Call { get; set; }

    /// <summary>Whether sums are written past the caches.</summary>
    public bool Streams { get; set; }

    public void Run(int first, int end)
    {
        Agreement agreement = Call.Agreement;
        CombineCall call = Call.Combine;
        RowEntries summed = call.Plan.Summed;
        byte** rows = stackalloc byte*[call.Plan.TopK + MaxBiases];
        float* weights = stackalloc float[call.Plan.TopK + MaxBiases];
        int entry = summed.FirstOf(first);
        for (int token = first; token < end; token++)
        {
            FaultPoints.Pass(FaultPoint.PullToken);
            int count = 0;
            for (; entry < summed.End[token]; entry++)
            {
                rows[count] = RowOf(agreement, summed.Rank[entry], summed.Row[entry]);
                if (call.ChoiceWeights != null) weights[count] = call.ChoiceWeights[(token * call.Plan.TopK) + summed.Choice[entry]];
                count++;
            }
            AddBias(call.Bias, token, rows, weights, ref count);
            AddBias(call.SecondBias, token, rows, weights, ref count);
            reducer.Reduce(rows, call.ChoiceWeights == null ? null : weights, count, call.Output[token], arenas.Layout.Hidden, Streams);
            if (call.ReducedWeights != null) ReduceWeights(call, agreement, token);
        }
        if (Streams) RowCopy.Fence();
    }

    /// <summary>A bias is a contribution like another, of weight 1.</summary>
    private static void AddBias(RowMemory bias, int token, byte** rows, float* weights, ref int count)
    {
        if (bias.IsAbsent) return;
        rows[count] = bias[token];
        weights[count++] = 1;
    }

    private byte* RowOf(Agreement agreement, int owner, int row) =>
        arenas.Base(owner) + agreement.RegionOffsets[owner] + (row * arenas.Layout.RowBytes);

    private void ReduceWeights(in CombineCall call, Agreement agreement, int token)
    {
        RoutingPlan plan = call.Plan;
        RowEntries sent = plan.Sent;
        var reduced = new Span<float>(call.ReducedWeights + ((long)token * plan.TopK), plan.TopK);
        reduced.Clear();
        for (int entry = sent.FirstOf(token); entry < sent.End[token]; entry++)
        {
            int owner = sent.Rank[entry];
            float* weights = (float*)(arenas.Base(owner) + agreement.WeightsOffsets[owner]);
            long row = sent.Row[entry];
            if (plan.Layout == RowLayout.ExpertMajor)
            {
                reduced[sent.Choice[entry]] = weights[row];
                continue;
            }
            for (int k = 0; k < plan.TopK; k++) reduced[k] += weights[(row * plan.TopK) + k];
        }
    }
}

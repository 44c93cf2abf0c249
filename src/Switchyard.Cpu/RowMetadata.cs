using System.Runtime.Intrinsics;
using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Tells the receiver of each row where it came from, which experts it is for and with which weights; and which rows are summed there.</summary>
internal sealed unsafe class RowMetadata(PeerArenas arenas)
{
    /// <summary>Writes the metadata of a token's rows.</summary>
    public void Write(in PushCall call, int token, int firstEntry)
    {
        RowEntries sent = call.Plan.Sent;
        int topK = call.Plan.TopK;
        int* ranks = stackalloc int[topK];
        int* locals = stackalloc int[topK];
        bool isRankMajor = call.Plan.Layout == RowLayout.RankMajor;
        if (isRankMajor) Locate(call.Plan.Placement, new ReadOnlySpan<int>(call.TopkIndices + ((long)token * topK), topK), ranks, locals);
        for (int entry = firstEntry; entry < sent.End[token]; entry++)
        {
            int destination = sent.Rank[entry];
            byte* region = RegionOf(call, destination);
            RegionLayout layout = call.Agreement.Regions[destination];
            long row = sent.Row[entry];
            ((RowSource*)(region + layout.SourcesOffset))[row] = new RowSource(arenas.Rank, token);
            int* indices = (int*)(region + layout.IndicesOffset);
            float* weights = (float*)(region + layout.WeightsOffset);
            if (isRankMajor)
            {
                float* ofToken = call.TopkWeights == null ? null : call.TopkWeights + ((long)token * topK);
                WriteColumns(topK, destination, ranks, locals, ofToken, indices + (row * topK), weights + (row * topK));
                continue;
            }
            int choice = (token * topK) + sent.Choice[entry];
            indices[row] = call.Plan.Placement.LocalIndexOf(call.TopkIndices[choice]);
            weights[row] = Weight(call, choice);
        }
    }

    /// <summary>Tells each rank which of its rows are this token's, in the order in which it sums them.</summary>
    public void WriteGroups(in PushCall call, int token, int firstEntry)
    {
        RowEntries sent = call.Plan.Sent, summed = call.Plan.Summed;
        int topK = call.Plan.TopK;
        for (int group = summed.FirstOf(token); group < summed.End[token]; group++)
        {
            int destination = summed.Rank[group];
            int* rows = (int*)(RegionOf(call, destination) + call.Agreement.Regions[destination].GroupsOffset) + ((long)summed.Row[group] * topK);
            int count = 0;
            for (int entry = firstEntry; entry < sent.End[token]; entry++)
            {
                if (sent.Rank[entry] == destination) rows[count++] = sent.Row[entry];
            }
            if (count < topK) rows[count] = -1;
        }
    }

    /// <summary>The rank and local index of each choice; -1, -1 where nothing was chosen.</summary>
    private static void Locate(ExpertPlacement placement, ReadOnlySpan<int> chosen, int* ranks, int* locals)
    {
        for (int k = 0; k < chosen.Length; k++)
        {
            int expert = chosen[k];
            ranks[k] = expert < 0 ? -1 : placement.RankOf(expert);
            locals[k] = expert < 0 ? -1 : placement.LocalIndexOf(expert);
        }
    }

    /// <summary>Of a token's choices those that are on this rank; of the others -1 and weight 0.</summary>
    private static void WriteColumns(int topK, int destination, int* ranks, int* locals, float* ofToken, int* indices, float* weights)
    {
        int k = 0;
        for (; k <= topK - Vector256<int>.Count; k += Vector256<int>.Count)
        {
            Vector256<int> isThere = Vector256.Equals(Vector256.Load(ranks + k), Vector256.Create(destination));
            Vector256<float> weight = ofToken == null ? Vector256<float>.One : Vector256.Load(ofToken + k);
            (Vector256.Load(locals + k) | ~isThere).Store(indices + k);
            (weight & isThere.AsSingle()).Store(weights + k);
        }
        for (; k < topK; k++)
        {
            bool isThere = ranks[k] == destination;
            indices[k] = isThere ? locals[k] : -1;
            weights[k] = isThere ? (ofToken == null ? 1 : ofToken[k]) : 0;
        }
    }

    private byte* RegionOf(in PushCall call, int destination) => arenas.Base(destination) + call.Agreement.RegionOffsets[destination];

    private static float Weight(in PushCall call, int choice) => call.TopkWeights == null ? 1 : call.TopkWeights[choice];
}

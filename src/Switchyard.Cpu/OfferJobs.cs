using Switchyard.Arena;
using Switchyard.Cpu.Vectors;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Copies results into the arena. Items are rows.</summary>
internal sealed unsafe class CopyJob(ArenaLayout layout, VectorWidth width) : ICrewJob
{
    public OfferCall Call { get; set; }

    public bool Streams { get; set; }

    public void Run(int first, int end)
    {
        OfferCall call = Call;
        nint rowBytes = (nint)layout.RowBytes;
        for (int row = first; row < end; row++)
        {
            FaultPoints.Pass(FaultPoint.CopyResult);
            byte* destination = call.Destination + (row * rowBytes);
            if (Streams) RowCopy.Streaming(call.Results[row], destination, rowBytes, width);
            else RowCopy.Plain(call.Results[row], destination, rowBytes);
        }
        if (Streams) RowCopy.Fence();
    }
}

/// <summary>Sums the rows of each group into the arena. Items are groups.</summary>
internal sealed unsafe class SumJob(ArenaLayout layout, RowReducer reducer) : ICrewJob
{
    public OfferCall Call { get; set; }

    public bool Streams { get; set; }

    public void Run(int first, int end)
    {
        OfferCall call = Call;
        int topK = layout.TopK;
        byte** rows = stackalloc byte*[topK];
        for (int group = first; group < end; group++)
        {
            int count = 0;
            while (count < topK && call.Plan.Groups[(group * topK) + count] is >= 0 and var row) rows[count++] = call.Results[row];
            reducer.Reduce(rows, null, count, call.Destination + (group * layout.RowBytes), layout.Hidden, Streams);
        }
        if (Streams) RowCopy.Fence();
    }
}

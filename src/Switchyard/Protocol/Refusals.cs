namespace Switchyard.Protocol;

/// <summary>The errors of calls that all ranks refuse alike, before anything moves.</summary>
internal static class Refusals
{
    /// <summary>A rank has no memory for what it must bring.</summary>
    public static CapacityException NoBytes(int rank, long needed, long available, CallSite site, int callsBehind = 0)
    {
        string remedy = "Dispose results, write results into Dispatched.ResultRows, or raise ExpertBufferOptions.MemoryBudget.";
        if (available == 0) remedy += " On a GPU its memory beside the arena may be what lacks (MemoryEstimate.DeviceHandleBytes).";
        return new(rank, needed, available, "bytes", remedy, site, callsBehind);
    }

    /// <summary>A rank would receive more than it granted.</summary>
    public static CapacityException NoRows(int rank, long needed, long available, int receiveCapacity, CallSite site, int callsBehind = 0)
    {
        string remedy = available >= receiveCapacity
            ? $"That is all of ExpertBufferOptions.ReceiveCapacity ({receiveCapacity}): raise it, or balance the experts' load."
            : "Its memory is taken by earlier results: dispose them, or raise ExpertBufferOptions.MemoryBudget.";
        return new(rank, needed, available, "rows", remedy, site, callsBehind);
    }
}

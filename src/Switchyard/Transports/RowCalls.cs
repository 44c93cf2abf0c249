using Switchyard.Arena;
using Switchyard.Planning;

namespace Switchyard.Transports;

/// <summary>One push: rows in the caller's memory, to the regions that the peers granted.</summary>
internal readonly unsafe struct PushCall
{
    public required long Epoch { get; init; }

    public required RoutingPlan Plan { get; init; }

    public required Agreement Agreement { get; init; }

    public required byte* Rows { get; init; }

    public required nint RowStrideBytes { get; init; }

    /// <summary>Null in a cached dispatch: rows travel without metadata.</summary>
    public required int* TopkIndices { get; init; }

    /// <summary>Null: the weights are taken as 1.</summary>
    public required float* TopkWeights { get; init; }
}

/// <summary>One pull: results in the peers' regions, to the caller's memory.</summary>
internal readonly unsafe struct PullCall
{
    public required long Epoch { get; init; }

    public required RoutingPlan Plan { get; init; }

    public required Agreement Agreement { get; init; }

    public required byte* Output { get; init; }

    public required nint OutputStrideBytes { get; init; }

    /// <summary>Tokens × top-k reduced weights, or null.</summary>
    public required float* ReducedWeights { get; init; }
}

/// <summary>Where every rank's rows of this call lie, copied from the announcements and bounds-checked.</summary>
internal sealed class Agreement(int ranks)
{
    public readonly long[] RegionOffsets = new long[ranks];
    public readonly RegionLayout[] Regions = new RegionLayout[ranks];
    public readonly long[] WeightsOffsets = new long[ranks];
}

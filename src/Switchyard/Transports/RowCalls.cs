using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;

namespace Switchyard.Transports;

/// <summary>Rows somewhere in this process's memory.</summary>
/// <param name="Address">The first row.</param>
/// <param name="StrideBytes">Bytes from row to row.</param>
internal readonly unsafe record struct RowMemory(nint Address, nint StrideBytes)
{
    public bool IsAbsent => Address == 0;

    public byte* this[nint row] => (byte*)Address + (row * StrideBytes);
}

/// <summary>One dispatch of a rank.</summary>
internal readonly unsafe struct DispatchCall
{
    /// <summary>Names the region that this rank grants.</summary>
    public required Announcement Announcement { get; init; }

    /// <summary>Counted, or in a cached dispatch one that was resolved before.</summary>
    public required RoutingPlan Plan { get; init; }

    /// <summary>In the announcement's format, or where they are to be quantized in the buffer's (<see cref="ArenaLayout.Format"/>).</summary>
    public required RowMemory Rows { get; init; }

    /// <summary>Absent where rows have no scales, or get them on the way.</summary>
    public required RowMemory Scales { get; init; }

    /// <summary>Tokens × top-k, as the caller gave them; 0 in a cached dispatch: rows travel without metadata.</summary>
    public required nint TopkIndices { get; init; }

    /// <summary>Int32 or Int64.</summary>
    public required ElementType IndexElement { get; init; }

    /// <summary>Null: the weights are taken as 1.</summary>
    public required float* TopkWeights { get; init; }

    /// <summary>How each row becomes one of the announcement's format, which has the scales' layout; <see cref="Float8Scaling.None"/>: it is one.</summary>
    public Float8Scaling Quantize => Announcement.Signature.Quantize;

    public bool IsCached => Announcement.Signature.Operation == Operation.CachedDispatch;
}

/// <summary>One combine of a rank.</summary>
internal readonly unsafe struct CombineCall
{
    /// <summary>Says where this rank's results lie.</summary>
    public required Announcement Announcement { get; init; }

    public required RoutingPlan Plan { get; init; }

    public required RowMemory Output { get; init; }

    public required RowMemory Bias { get; init; }

    public required RowMemory SecondBias { get; init; }

    /// <summary>Tokens × top-k weights to multiply contributions by, or null.</summary>
    public required float* ChoiceWeights { get; init; }

    /// <summary>Tokens × top-k reduced weights, or null.</summary>
    public required float* ReducedWeights { get; init; }
}

/// <summary>What a rank does to its own region before others have written to it, and where it finds what came.</summary>
internal readonly struct ReceiveCall
{
    public required long Epoch { get; init; }

    public required RoutingPlan Plan { get; init; }

    /// <summary>This rank's region, from the start of its arena.</summary>
    public required long RegionOffset { get; init; }

    public required RegionLayout Region { get; init; }

    /// <summary>False in a cached dispatch: rows come without metadata.</summary>
    public required bool HasMetadata { get; init; }

    public required bool ZeroPadding { get; init; }

    public required CallSite Site { get; init; }
}

/// <summary>One push: rows in the caller's memory, to the regions that the peers granted.</summary>
internal readonly unsafe struct PushCall
{
    public required long Epoch { get; init; }

    public required RoutingPlan Plan { get; init; }

    public required Agreement Agreement { get; init; }

    public required RowMemory Rows { get; init; }

    /// <summary>Absent where rows have no scales, or get them on the way.</summary>
    public required RowMemory Scales { get; init; }

    /// <summary>How each row becomes one of the regions' format; <see cref="Float8Scaling.None"/>: it is one.</summary>
    public required Float8Scaling Quantize { get; init; }

    /// <summary>Null in a cached dispatch: rows travel without metadata.</summary>
    public required int* TopkIndices { get; init; }

    /// <summary>Null: the weights are taken as 1.</summary>
    public required float* TopkWeights { get; init; }
}

/// <summary>Results that go to this rank's arena: as they are, or summed by the plan's groups.</summary>
internal readonly unsafe struct OfferCall
{
    public required RoutingPlan Plan { get; init; }

    public required RowMemory Results { get; init; }

    /// <summary>Where they go, without gaps.</summary>
    public required byte* Destination { get; init; }
}

/// <summary>One pull: results in the peers' regions, to the caller's memory.</summary>
internal readonly unsafe struct PullCall
{
    public required CombineCall Combine { get; init; }

    public required Agreement Agreement { get; init; }
}

/// <summary>Where every rank's rows of this call lie, copied from the announcements and bounds-checked.</summary>
internal sealed class Agreement(int ranks)
{
    public readonly long[] RegionOffsets = new long[ranks];
    public readonly RegionLayout[] Regions = new RegionLayout[ranks];
    public readonly long[] WeightsOffsets = new long[ranks];
}

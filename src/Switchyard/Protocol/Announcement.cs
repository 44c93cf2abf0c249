using System.Runtime.InteropServices;

namespace Switchyard.Protocol;

/// <summary>
/// What a rank tells every peer at the start of a call; the counts follow it in the ring entry (<see cref="Arena.ArenaLayout"/>).
/// The flag is written last.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = 128)]
internal struct Announcement
{
    public ulong Flag;
    public CallSignature Signature;

    /// <summary>Dispatch: the region this rank grants. Combine: its results. Bytes from the start of the arena.</summary>
    public long RegionOffset;

    /// <summary>Dispatch: the rows the granted region can take. Combine: the rows of the results.</summary>
    public long RegionRows;

    /// <summary>Combine with weights: where they lie, from the start of the arena.</summary>
    public long WeightsOffset;

    /// <summary>Not zero: this rank cannot take part, for it needs these bytes of its pool ...</summary>
    public long NeededBytes;

    /// <summary>... and has these.</summary>
    public long AvailableBytes;

    public long Epoch;
}

/// <summary>What all ranks must give alike in a call.</summary>
[StructLayout(LayoutKind.Sequential, Size = 16)]
internal readonly record struct CallSignature(Operation Operation, RowLayout Layout, byte WithWeights, byte Reserved, int Alignment, long HandleEpoch)
{
    /// <summary>The first difference to another rank's signature, as a phrase with both values.</summary>
    public string DifferenceTo(CallSignature other)
    {
        if (Operation != other.Operation) return $"one calls {Operation}, the other {other.Operation}";
        if (Layout != other.Layout) return $"DispatchOptions.Layout is {Layout} and {other.Layout}";
        if (Alignment != other.Alignment) return $"DispatchOptions.ExpertAlignment is {Alignment} and {other.Alignment}";
        if (HandleEpoch != other.HandleEpoch) return $"the handles come from dispatch {HandleEpoch} and dispatch {other.HandleEpoch}";
        return WithWeights != 0 ? "one combines weights, the other does not" : "one does not combine weights, the other does";
    }
}

using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Arena;

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

    /// <summary>Of all this and the counts: where other ranks' rows go depends on each bit, which only its writer could hold against it.</summary>
    public uint Check;

    /// <summary>The CRC-32C of the epoch, the signature and the other fields, a u64 each, then of the counts in pairs.</summary>
    public readonly uint CheckWith(ReadOnlySpan<int> tokens, ReadOnlySpan<int> choices)
    {
        uint check = BitOperations.Crc32C(Signature.AddTo(BitOperations.Crc32C(0, (ulong)Epoch)), (ulong)RegionOffset);
        check = BitOperations.Crc32C(BitOperations.Crc32C(check, (ulong)RegionRows), (ulong)WeightsOffset);
        check = BitOperations.Crc32C(BitOperations.Crc32C(check, (ulong)NeededBytes), (ulong)AvailableBytes);
        return Add(Add(check, tokens), choices);
    }

    private static uint Add(uint check, ReadOnlySpan<int> words)
    {
        ref int first = ref MemoryMarshal.GetReference(words);
        int i = 0;
        for (; i <= words.Length - 2; i += 2) check = BitOperations.Crc32C(check, Unsafe.ReadUnaligned<ulong>(ref Unsafe.As<int, byte>(ref Unsafe.Add(ref first, i))));
        return i < words.Length ? BitOperations.Crc32C(check, (uint)words[i]) : check;
    }
}

/// <summary>What a call does beyond its layout, as far as all ranks must do the same.</summary>
[Flags]
internal enum CallTraits : byte
{
    None = 0,

    /// <summary>A combine that brings weights back.</summary>
    Weights = 1,

    /// <summary>A dispatch whose result has the same shape whatever comes.</summary>
    FixedShape = 2,

    /// <summary>A dispatch whose results are summed where they lie before they travel.</summary>
    PreReduce = 4,
}

/// <summary>What all ranks must give alike in a call.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
internal readonly record struct CallSignature(
    Operation Operation, RowLayout Layout, CallTraits Traits, Float8Scaling Quantize, int Alignment, long HandleEpoch, RowFormat Format)
{
    /// <summary>The first difference to another rank's signature, as a phrase with both values.</summary>
    public string DifferenceTo(CallSignature other)
    {
        if (Operation != other.Operation) return $"one calls {Operation}, the other {other.Operation}";
        if (Layout != other.Layout) return $"DispatchOptions.Layout is {Layout} and {other.Layout}";
        if (Alignment != other.Alignment) return $"DispatchOptions.ExpertAlignment is {Alignment} and {other.Alignment}";
        if (HandleEpoch != other.HandleEpoch) return $"the handles come from dispatch {HandleEpoch} and dispatch {other.HandleEpoch}";
        if (Differs(other, CallTraits.FixedShape)) return $"DispatchOptions.FixedShape is {Has(CallTraits.FixedShape)} and {other.Has(CallTraits.FixedShape)}";
        if (Differs(other, CallTraits.PreReduce)) return $"DispatchOptions.PreReduce is {Has(CallTraits.PreReduce)} and {other.Has(CallTraits.PreReduce)}";
        if (Differs(other, CallTraits.Weights)) return Has(CallTraits.Weights) ? "one combines weights, the other does not" : "one does not combine weights, the other does";
        if (Quantize != other.Quantize) return $"{(Operation == Operation.Dispatch ? "DispatchOptions.Quantize" : "quantize")} is {Quantize} and {other.Quantize}";
        return DifferenceTo(other.Format);
    }

    public bool Has(CallTraits trait) => (Traits & trait) != 0;

    /// <summary>Field by field: bytes between fields may be anything.</summary>
    public uint AddTo(uint check)
    {
        check = BitOperations.Crc32C(check, (ulong)Operation | ((ulong)Layout << 8) | ((ulong)Traits << 16) | ((ulong)Quantize << 24) | ((ulong)(uint)Alignment << 32));
        check = BitOperations.Crc32C(check, (ulong)HandleEpoch);
        check = BitOperations.Crc32C(check, (uint)Format.RowBytes | ((ulong)(uint)Format.ScaleBytes << 32));
        return BitOperations.Crc32C(check, (ulong)Format.Element | ((ulong)Format.ScaleElement << 8) | ((ulong)Format.ScaleLayout << 16));
    }

    private bool Differs(CallSignature other, CallTraits trait) => Has(trait) != other.Has(trait);

    private string DifferenceTo(RowFormat other)
    {
        if (Format.Element != other.Element) return $"the rows are of {Format.Element} and of {other.Element}";
        if (Format.RowBytes != other.RowBytes) return $"the rows take {Format.RowBytes} and {other.RowBytes} bytes";
        if (Format.ScaleElement != other.ScaleElement) return $"the scales are of {Format.ScaleElement} and of {other.ScaleElement}";
        if (Format.ScaleBytes != other.ScaleBytes) return $"a row's scales take {Format.ScaleBytes} and {other.ScaleBytes} bytes";
        return $"DispatchOptions.ScaleLayout is {Format.ScaleLayout} and {other.ScaleLayout}";
    }
}

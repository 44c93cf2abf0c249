using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Protocol;

namespace Switchyard.Cuda.Kernels;

/// <summary>An address for each rank.</summary>
[InlineArray(Limits.MaxRanks)]
internal struct RankAddresses
{
    private nint _first;
}

/// <summary>The buffer as one rank sees it, as exchange.cuh lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ExchangeArgs
{
    public RankAddresses Arenas;
    public nint State;
    public nint Control;

    /// <summary>A copy of this in device memory.</summary>
    public nint Self;
    public long AbortAt;
    public long FaultsAt;
    public long ArrivalsAt;
    public long DoneAt;
    public long ClosedAt;
    public long RingAt;
    public long PoolAt;
    public long TotalBytes;
    public uint EntryBytes;
    public uint RankCountsAt;
    public uint ExpertCountsAt;
    public uint Rank;
    public uint Ranks;
    public uint Experts;
    public uint TopK;
    public uint Unused;
}

/// <summary>A rank's words that only its own kernels touch: zeroed once, before any of them.</summary>
internal static class DeviceState
{
    public const int Bytes = 64 + (Limits.MaxRanks * sizeof(ulong));
}

/// <summary>Why a call was refused on all ranks.</summary>
internal enum DeviceRefusal : ulong
{
    None = 0,
    NoBytes = 1,
    NoRows = 2,
    NoExpert = 3,
    NoPlan = 4,
}

/// <summary>What a rank's host and its kernels tell each other, in pinned memory of the host, as exchange.cuh lays it out.</summary>
[StructLayout(LayoutKind.Explicit, Size = Bytes)]
internal unsafe struct Control
{
    public const int Bytes = 224 + (Limits.MaxRanks * sizeof(ulong));

    [FieldOffset(0)] public ulong DeadlineNs;
    [FieldOffset(8)] public ulong Abort;
    [FieldOffset(16)] public ulong Left;

    /// <summary>1 once <see cref="Fault"/> is there.</summary>
    [FieldOffset(24)] public ulong Faulted;
    [FieldOffset(32)] public FaultRecord Fault;

    /// <summary>The last call whose counts are there.</summary>
    [FieldOffset(160)] public ulong Told;

    /// <summary>The last call that was refused, once what follows says why; 0 for none.</summary>
    [FieldOffset(168)] public ulong Refused;
    [FieldOffset(176)] public DeviceRefusal Refusal;
    [FieldOffset(184)] public ulong RefusedRank;
    [FieldOffset(192)] public long RefusedNeeded;
    [FieldOffset(200)] public long RefusedAvailable;
    [FieldOffset(208)] public ulong RefusedOperation;

    /// <summary>As the host numbers calls; 0 in a graph.</summary>
    [FieldOffset(216)] public ulong RefusedNumber;
    [FieldOffset(224)] public fixed ulong WaitedNs[Limits.MaxRanks];
}

/// <summary>The totals of a plan as exchange.cuh lays them out; the numbers of local experts follow.</summary>
internal unsafe struct PlanTotals
{
    /// <summary>The dispatch that made it, as the device numbers them; 0 where it brought nothing.</summary>
    public ulong Born;
    public fixed long Rows[Limits.MaxRanks];
    public fixed long Tokens[Limits.MaxRanks];
    public fixed int SentTo[Limits.MaxRanks];
    public fixed int ReceivedFrom[Limits.MaxRanks];
    public fixed int TokensFrom[Limits.MaxRanks];

    /// <summary>Where the device has how many rows a rank receives: behind <see cref="Born"/>. Reckoned, for a field's address is checked by reading there.</summary>
    public static nint RowsAt(nint totals, int rank) => totals + sizeof(ulong) + (rank * sizeof(long));

    /// <summary>With the tokens and first row of each local expert, and the end.</summary>
    public static int BytesFor(int localExperts) => sizeof(PlanTotals) + (sizeof(int) * ((2 * localExperts) + 1));
}

using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Kernels;

/// <summary>
/// barrier.cu: all blocks of all ranks come before any goes. The blocks of all ranks must fit on the device together, beside whatever else
/// runs there: those that wait do not make way.
/// </summary>
internal sealed class BarrierKernel
{
    public const string Name = "barrier";

    public const string StampName = "stamp";

    private readonly CudaFunction _function;
    private readonly CudaFunction _stamp;

    internal BarrierKernel(CudaModule module) => (_function, _stamp) = (module.GetFunction(Name), module.GetFunction(StampName));

    /// <summary>Blocks that one multiprocessor holds.</summary>
    public int BlocksPerMultiprocessor(int ranks) => _function.BlocksPerMultiprocessor(new LaunchShape(1, Threads(ranks)));

    /// <summary>Enqueues one rank's part of <see cref="BarrierArgs.Rounds"/> barriers.</summary>
    public void Enqueue(CudaStream stream, in BarrierArgs args, int blocks, bool overlap = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(blocks);
        if (args.Ranks is 0 or > Limits.MaxRanks || args.Rank >= args.Ranks)
            throw new ArgumentException($"Rank {args.Rank} of {args.Ranks} is not one of 1 to {Limits.MaxRanks} ranks.", nameof(args));
        _function.Launch(new LaunchShape(blocks, Threads((int)args.Ranks), Overlap: overlap), stream, args);
    }

    /// <summary>
    /// Enqueues a note of the time, in nanoseconds of the device's clock, at which what is ahead in the stream has ended; in memory that the device
    /// reaches. It starts early, so that its own launch is not in that time.
    /// </summary>
    public void Stamp(CudaStream stream, nint time) => _stamp.Launch(new LaunchShape(1, 32, Overlap: true), stream, new StampArgs { Time = time });

    private static int Threads(int ranks) => ranks + 31 & ~31;
}

/// <summary>The parameter of barrier, as barrier.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct BarrierArgs
{
    /// <summary>Each rank's <see cref="BarrierBoard"/>, as this rank's device addresses it.</summary>
    public RankAddresses Boards;

    /// <summary>Device memory of this rank alone, of <see cref="BarrierState.Bytes"/>, zeroed once.</summary>
    public nint State;

    /// <summary>The <see cref="BarrierRecord"/> that tells of a wait that failed, in pinned memory.</summary>
    public nint Record;

    /// <summary>Where the time is noted when all barriers are behind, in memory that the device reaches; 0 for nowhere.</summary>
    public nint Ended;

    /// <summary>How long a wait may take.</summary>
    public ulong TimeoutNs;

    public uint Rank;

    public uint Ranks;

    /// <summary>Barriers in a row.</summary>
    public uint Rounds;
}

/// <summary>The parameter of stamp, as barrier.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct StampArgs
{
    public nint Time;
}

/// <summary>A rank's words that its peers write: zeroed once, before any of them.</summary>
internal static class BarrierBoard
{
    public const int Bytes = (Limits.MaxRanks + 1) * sizeof(ulong);

    /// <summary>Of the word that ends this rank's waits: 1 + the rank that gave up.</summary>
    public const int AbortOffset = Limits.MaxRanks * sizeof(ulong);
}

/// <summary>A rank's words that only its own kernels touch.</summary>
internal static class BarrierState
{
    public const int Bytes = 3 * sizeof(ulong);
}

/// <summary>Why a wait failed.</summary>
internal enum BarrierCause : ulong
{
    /// <summary>None did.</summary>
    None = 0,

    /// <summary>A rank did not come in time.</summary>
    Deadline = 1,

    /// <summary>A rank gave up.</summary>
    Aborted = 2,
}

/// <summary>What a kernel leaves of the first wait that failed; all zeros before. Read it when the kernel has ended.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct BarrierRecord
{
    public BarrierCause Cause;

    /// <summary>The number of the barrier, from 1.</summary>
    public ulong Epoch;

    /// <summary>The rank that was waited for, or that gave up.</summary>
    public ulong Rank;

    /// <summary>The last barrier that the rank which was waited for was seen at.</summary>
    public ulong Seen;

    public ulong WaitedNs;
}

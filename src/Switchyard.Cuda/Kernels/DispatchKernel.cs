using System.Numerics;
using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;
using Switchyard.Protocol;

namespace Switchyard.Cuda.Kernels;

/// <summary>
/// dispatch.cu: a whole dispatch of one rank. Its blocks wait for those of the other ranks, so all of them must fit on their devices together:
/// each takes a multiprocessor for itself.
/// </summary>
internal sealed class DispatchKernel
{
    public const string Name = "dispatch";

    private const int Threads = 512;
    private const int Warps = Threads / 32;
    private const int Stages = 2;
    private const int RingOffset = 256;
    private const int MaxMovers = 10; // the others keep the books; with more, a rank's last rows end further apart. 8 bytes for each stage of theirs fit before the rings
    private const int MaxPieceBytes = 14336; // 7 warps of two stages fill the shared memory of a Hopper block
    private const int MaxQuantizedPieceBytes = 7168; // as given: no more groups than a warp has lanes
    private const int PackedGroup = 4 * Float8Scales.GroupSize; // channels whose packed scales share a word
    private const int PieceScaleBytes = 256;
    private const int MaxTokensPerBlock = ushort.MaxValue; // choices of an expert in a block are counted in 16 bits
    private readonly CudaFunction _function;
    private readonly int _sharedBytes;

    internal DispatchKernel(CudaModule module, CudaDevice device)
    {
        _function = module.GetFunction(Name);
        _sharedBytes = device.MaxSharedBytesPerBlock - _function.StaticSharedBytes - 1024;
        _function.AllowShared(_sharedBytes);
    }

    /// <summary>Blocks that so many tokens need at least.</summary>
    public static int LeastBlocks(int tokens) => Math.Max(1, (tokens + MaxTokensPerBlock - 1) / MaxTokensPerBlock);

    /// <summary>Tokens that so many blocks take at most.</summary>
    public static long MostTokens(int blocks) => (long)blocks * MaxTokensPerBlock;

    /// <summary>As <see cref="KernelSet.WarmUp"/>.</summary>
    public void WarmUp(CudaStream stream, in ExchangeArgs idle)
    {
        var args = new DispatchArgs { Exchange = idle, Plan = idle.State, FirstExpert = idle.State, RowBytes = DeviceRows.Alignment };
        Enqueue(stream, ref args, blocks: 1);
    }

    /// <summary>Enqueues one rank's part; fills in how its rows travel.</summary>
    public void Enqueue(CudaStream stream, ref DispatchArgs args, int blocks)
    {
        int stageBytes = args.GivenElement == 0 ? CutRows(ref args) : CutQuantizedRows(ref args);
        int movers = Math.Min(MaxMovers, (_sharedBytes - RingOffset) / (Stages * stageBytes));
        args.Movers = (uint)movers;
        args.LanesAToken = Math.Min(32, BitOperations.RoundUpToPowerOf2(args.Exchange.TopK));
        // As dispatch_count.cuh's Scratch: counts by warp and rank, four numbers an expert, counts by warp and expert.
        int scratch = (Warps * Limits.MaxRanks * sizeof(uint)) + ((int)args.Exchange.Experts * ((4 * sizeof(int)) + (Warps * sizeof(ushort))));
        _function.Launch(new LaunchShape(blocks, Threads, Math.Max(scratch, RingOffset + (movers * Stages * stageBytes)), Overlap: true), stream, args);
    }

    /// <summary>Into pieces that a warp moves at once; returns the bytes that one takes in its ring.</summary>
    private static int CutRows(ref DispatchArgs args)
    {
        int rowBytes = (int)args.RowBytes;
        int pieces = (rowBytes + MaxPieceBytes - 1) / MaxPieceBytes;
        int pieceBytes = RoundUp((rowBytes + pieces - 1) / pieces, DeviceRows.Alignment);
        (args.Pieces, args.PieceBytes) = ((uint)pieces, (uint)pieceBytes);
        args.ScaleUnit = ScaleUnit(args);
        bool isWhole = args.ScaleUnit == DeviceRows.Alignment && args.Mine.Signature.Format.ScaleLayout == ScaleLayout.RowMajor;
        args.MoversScales = isWhole ? args.ScaleBytes : 0;
        return pieceBytes;
    }

    /// <summary>The same where a piece is loaded as it is given, and its codes and scales lie beside it. Its scales are whole words.</summary>
    private static int CutQuantizedRows(ref DispatchArgs args)
    {
        int elements = (int)args.RowBytes, size = ((ElementType)args.GivenElement).SizeInBytes();
        int most = MaxQuantizedPieceBytes / size / PackedGroup * PackedGroup;
        int pieces = (elements + most - 1) / most;
        int pieceElements = RoundUp((elements + pieces - 1) / pieces, PackedGroup);
        (args.Pieces, args.PieceBytes) = ((uint)((elements + pieceElements - 1) / pieceElements), (uint)pieceElements);
        args.ScaleUnit = args.MoversScales = 0;
        return (pieceElements * (size + 1)) + PieceScaleBytes;
    }

    private static int RoundUp(int value, int powerOfTwo) => (value + powerOfTwo - 1) & -powerOfTwo;

    /// <summary>Column-major scales are moved one by one, others by as many bytes as everything about them is a multiple of.</summary>
    private static uint ScaleUnit(in DispatchArgs args)
    {
        if (args.ScaleBytes == 0 || args.Mine.Signature.Format.ScaleLayout == ScaleLayout.ColumnMajor) return args.ScaleSize;
        ulong all = (ulong)args.Scales | (ulong)args.ScaleStride | args.ScaleBytes | 16;
        uint unit = 1u << BitOperations.TrailingZeroCount(all);
        return unit == 8 ? 4 : unit;
    }
}

/// <summary>When each part of a dispatch ended on one block, in nanoseconds of the device's clock, as dispatch_args.cuh lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DispatchMarks
{
    public const int Count = 8;

    public ulong Begun;
    public ulong Counted;
    public ulong Heard;
    public ulong Agreed;
    public ulong Placed;
    public ulong Moved;
    public ulong Kept;

    /// <summary>Of the block that ended last.</summary>
    public ulong Signalled;
}

/// <summary>The parameter of dispatch, as dispatch.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DispatchArgs
{
    public ExchangeArgs Exchange;
    public Announcement Mine;
    public nint Rows;
    public long RowStride;
    public nint Scales;
    public long ScaleStride;
    public nint Indices;
    public nint Weights;
    public nint Plan;
    public nint Sent;
    public nint Summed;
    public nint Groups;
    public nint Places;
    public nint ExpertsOf;
    public nint FirstExpert;
    public nint BlockCounts;
    public nint Load;
    public nint ToldPlan;
    public ulong Tell;
    public ulong Acknowledged;
    public nint Marks;
    public int ReceiveCapacity;
    public uint Tokens;
    public uint IndicesAreWide;
    public uint RowBytes;
    public uint PieceBytes;
    public uint Pieces;
    public uint Movers;
    public uint ScaleBytes;
    public uint ScaleSize;
    public uint AwaitsReaders;
    public uint ZeroPadding;
    public uint ScaleUnit;
    public uint LanesAToken;
    public uint MoversScales;
    public uint GivenElement;
}

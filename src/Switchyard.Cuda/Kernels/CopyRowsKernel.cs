using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Kernels;

/// <summary>copy_rows.cu: copies rows by bulk copies.</summary>
internal sealed class CopyRowsKernel
{
    public const string Name = "copy_rows";

    private const int Stages = 2;
    private const int RingOffset = 256; // 8 bytes for each stage of the most warps
    private const int MaxWarps = RingOffset / (8 * Stages);
    private const int MaxPieceBytes = 16384; // 7 warps of two stages fill the shared memory of a Hopper block
    private readonly CudaFunction _function;
    private readonly int _multiprocessors;
    private readonly int _sharedBytes;

    internal CopyRowsKernel(CudaModule module, CudaDevice device)
    {
        _multiprocessors = device.MultiprocessorCount;
        _sharedBytes = device.MaxSharedBytesPerBlock;
        _function = module.GetFunction(Name, _sharedBytes);
    }

    /// <summary>As <see cref="KernelSet.WarmUp"/>.</summary>
    public void WarmUp(CudaStream stream, in ExchangeArgs idle) => Enqueue(
        stream, new DeviceRows(idle.State, 1, DeviceRows.Alignment), new DeviceRows(idle.State + DeviceRows.Alignment, 1, DeviceRows.Alignment), blocks: 1);

    /// <summary>Enqueues the copy of <paramref name="source"/> into as many rows of the same size.</summary>
    /// <param name="stream">Where.</param>
    /// <param name="source">The rows.</param>
    /// <param name="target">Their places, which do not overlap the rows.</param>
    /// <param name="blocks">Multiprocessors to use, a block each; 0 for all.</param>
    /// <param name="overlap">Whether it may start before the kernel ahead of it in the stream has ended.</param>
    /// <param name="rowsThere">Where the device tells how many of the rows are there, in 8 bytes; 0 for all.</param>
    public void Enqueue(CudaStream stream, DeviceRows source, DeviceRows target, int blocks = 0, bool overlap = false, nint rowsThere = 0)
    {
        source.Validate(nameof(source));
        target.Validate(nameof(target));
        if (source.Count != target.Count || source.RowBytes != target.RowBytes)
            throw new ArgumentException($"The target must have as many rows of the same size: {source}, {target}.", nameof(target));
        ArgumentOutOfRangeException.ThrowIfNegative(blocks);
        if (source.Count == 0) return;

        int piecesPerRow = (source.RowBytes + MaxPieceBytes - 1) / MaxPieceBytes;
        int pieceBytes = (((source.RowBytes + piecesPerRow - 1) / piecesPerRow) + DeviceRows.Alignment - 1) & -DeviceRows.Alignment;
        int warps = Math.Min(MaxWarps, (_sharedBytes - RingOffset) / (Stages * pieceBytes));
        var args = new CopyRowsArgs
        {
            Source = source.Address,
            Target = target.Address,
            SourceStride = source.Stride,
            TargetStride = target.Stride,
            Pieces = source.Count * piecesPerRow,
            RowsThere = rowsThere,
            RowBytes = (uint)source.RowBytes,
            PieceBytes = (uint)pieceBytes,
            PiecesPerRow = (uint)piecesPerRow,
            Warps = (uint)warps,
        };
        int shared = RingOffset + (warps * Stages * pieceBytes);
        _function.Launch(new LaunchShape(blocks == 0 ? _multiprocessors : blocks, warps * 32, shared, overlap), stream, args);
    }
}

/// <summary>The parameter of copy_rows, as copy_rows.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CopyRowsArgs
{
    public nint Source;
    public nint Target;
    public long SourceStride;
    public long TargetStride;
    public long Pieces;
    public nint RowsThere;
    public uint RowBytes;
    public uint PieceBytes;
    public uint PiecesPerRow;
    public uint Warps;
}

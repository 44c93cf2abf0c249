using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Kernels;

/// <summary>fill_rows.cu: fills rows with a pattern, from a row that may be known to the device only.</summary>
internal sealed class FillRowsKernel
{
    public const string Name = "fill_rows";

    /// <summary>What rows that nobody may read are filled with: a NaN in Single, Half and BFloat16 and in Float8, and no valid index.</summary>
    public const uint Poison = 0xFFFF_FFFF;

    private const int MaxThreads = 512;
    private readonly CudaFunction _function;
    private readonly int _multiprocessors;

    internal FillRowsKernel(CudaModule module, CudaDevice device)
    {
        _multiprocessors = device.MultiprocessorCount;
        _function = module.GetFunction(Name);
    }

    /// <summary>Enqueues filling <paramref name="rows"/> with <paramref name="pattern"/>, every 4 bytes of them.</summary>
    /// <param name="stream">Where.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="pattern">What is written.</param>
    /// <param name="first">Device address of an Int32, read when the kernel runs: rows before it are left alone. 0: all are filled.</param>
    /// <param name="overlap">Whether it may start before the kernel ahead of it in the stream has ended.</param>
    public void Enqueue(CudaStream stream, DeviceRows rows, uint pattern, nint first = 0, bool overlap = false)
    {
        rows.Validate(nameof(rows));
        if (first % sizeof(int) != 0) throw new ArgumentException($"0x{first:x} is no address of an Int32.", nameof(first));
        if (rows.Count == 0) return;
        var args = new FillRowsArgs
        {
            Target = rows.Address,
            First = first,
            Rows = rows.Count,
            Stride = rows.Stride,
            RowBytes = (uint)rows.RowBytes,
            Pattern = pattern,
        };
        int blocks = (int)Math.Min(rows.Count, 4L * _multiprocessors);
        int threads = Math.Clamp((rows.RowBytes / DeviceRows.Alignment) + 31 & ~31, 32, MaxThreads);
        _function.Launch(new LaunchShape(blocks, threads, Overlap: overlap), stream, args);
    }
}

/// <summary>The parameter of fill_rows, as fill_rows.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FillRowsArgs
{
    public nint Target;
    public nint First;
    public long Rows;
    public long Stride;
    public uint RowBytes;
    public uint Pattern;
}

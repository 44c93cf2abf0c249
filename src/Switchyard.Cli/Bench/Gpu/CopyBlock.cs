using Switchyard.Cuda.Driver;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>Memory of a device to copy from or to, full of random bytes.</summary>
internal sealed unsafe class CopyBlock : IDisposable
{
    private const int ChunkBytes = 32 << 20;

    private readonly CudaStream _stream;
    private readonly PhysicalMemory _memory;
    private readonly MappedMemory _mapped;

    /// <param name="stream">Of the device.</param>
    /// <param name="bytes">A power of two, at least 32 MiB.</param>
    /// <param name="seed">Of the bytes.</param>
    /// <param name="peers">Other devices that reach it.</param>
    public CopyBlock(CudaStream stream, long bytes, int seed, params ReadOnlySpan<CudaDevice> peers)
    {
        _stream = stream;
        Bytes = bytes;
        _memory = PhysicalMemory.Create(stream.Context.Device, bytes);
        _mapped = MappedMemory.Map(_memory, [stream.Context.Device, .. peers]);
        byte[] chunk = new byte[ChunkBytes];
        new Random(seed).NextBytes(chunk);
        fixed (byte* source = chunk)
        {
            stream.Copy(Address, (nint)source, ChunkBytes);
            stream.Synchronize();
        }
        for (long filled = ChunkBytes; filled < bytes; filled *= 2) stream.Copy(Address + (nint)filled, Address, filled);
        stream.Synchronize();
    }

    public nint Address => _mapped.Handle;

    public long Bytes { get; }

    /// <summary>Whether samples all over it are the same in another.</summary>
    public bool LooksLike(CopyBlock other)
    {
        const int Samples = 16;
        for (int sample = 0; sample < Samples; sample++)
        {
            long offset = (Bytes / Samples * (sample + 1)) - SampleBytes;
            if (!Sample(offset).AsSpan().SequenceEqual(other.Sample(offset))) return false;
        }
        return true;
    }

    public void Dispose()
    {
        _mapped.Dispose();
        _memory.Dispose();
    }

    private const int SampleBytes = 1 << 16;

    private byte[] Sample(long offset)
    {
        byte[] sample = new byte[SampleBytes];
        fixed (byte* target = sample)
        {
            _stream.Copy((nint)target, Address + (nint)offset, SampleBytes);
            _stream.Synchronize();
        }
        return sample;
    }
}

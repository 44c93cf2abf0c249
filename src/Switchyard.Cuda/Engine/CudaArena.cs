using Microsoft.Win32.SafeHandles;
using Switchyard.Cuda.Driver;
using Switchyard.Transports;

namespace Switchyard.Cuda.Engine;

/// <summary>An arena in a device's memory, mapped for one device of this process.</summary>
internal sealed unsafe class CudaArena : ArenaMemory
{
    private readonly CudaRuntime _runtime;
    private readonly PhysicalMemory _memory;
    private readonly MappedMemory _mapped;
    private readonly Lazy<SafeFileHandle> _descriptor;

    /// <param name="runtime">The device whose kernels use the mapping.</param>
    /// <param name="memory">The memory, which is released with this, also where this cannot be made.</param>
    /// <param name="bytes">Bytes of the arena; the memory may have more.</param>
    public CudaArena(CudaRuntime runtime, PhysicalMemory memory, long bytes)
    {
        _runtime = runtime;
        _memory = memory;
        _mapped = MappedMemory.MapOrRelease(memory, runtime.Device);
        _descriptor = new(memory.Export);
        Bytes = bytes;
    }

    public override nint Address => _mapped.Handle;

    public override long Bytes { get; }

    public override SafeFileHandle Descriptor => _descriptor.Value;

    /// <summary>The same memory, mapped for a device of this process.</summary>
    public CudaArena For(CudaRuntime runtime) => new(runtime, _mapped.Memory(_memory), Bytes);

    public override void Read(long offset, Span<byte> bytes)
    {
        fixed (byte* target = bytes) Copy((nint)target, Address + (nint)offset, bytes.Length);
    }

    public override void Write(long offset, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* source = bytes) Copy(Address + (nint)offset, (nint)source, bytes.Length);
    }

    public void Clear() => _runtime.FillNow(Address, 0, Bytes);

    private void Copy(nint target, nint source, long bytes) => _ = CudaTransport.Guarded(() =>
    {
        _runtime.CopyNow(target, source, bytes);
        return bytes;
    });

    protected override void Unmap()
    {
        if (_descriptor.IsValueCreated) _descriptor.Value.Dispose();
        _runtime.Retire(() =>
        {
            _mapped.Dispose();
            _memory.Dispose();
        });
    }
}

using Switchyard.Conformance;
using Switchyard.Cuda.Engine;

namespace Switchyard.Cuda.Tests;

/// <summary>Memory of a device for a rank of a test: one piece of it, handed out from its start.</summary>
internal sealed class CudaAccess(int device, long bytes = 64 << 20) : DeviceAccess
{
    private readonly CudaRuntime _runtime = CudaRuntime.Of(device);
    private readonly DeviceMemory _memory = new(CudaRuntime.Of(device), bytes);
    private long _used;

    public override int Device => device;

    public override int RowGranularity => Kernels.DeviceRows.Alignment;

    public override nint Allocate(long bytes)
    {
        nint start = _memory.Address + (nint)_used;
        _used += RankContext.RoundUp((int)bytes, 256);
        Assert.True(_used <= _memory.Bytes, $"a test needs more than {_memory.Bytes} bytes on the device");
        return start;
    }

    public override void Forget() => _used = 0;

    public override void Copy(nint target, nint source, long bytes)
    {
        if (bytes > 0) _runtime.CopyNow(target, source, bytes);
    }

    public override void Fill(nint target, byte value, long bytes) => _runtime.FillNow(target, value, bytes);

    /// <summary>Other ranks' kernels may still run.</summary>
    public override void Dispose() => _runtime.Retire(_memory.Dispose);
}

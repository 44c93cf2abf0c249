using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Ranks in threads and in processes of one machine: arenas in shared memory, rows moved by the caller's thread.</summary>
public sealed class CpuBackend : ExpertBackend
{
    private CpuBackend()
        : base("cpu")
    {
    }

    /// <summary>The backend; it has no state.</summary>
    public static CpuBackend Instance { get; } = new();

    internal override IScaleUpTransport ScaleUp { get; } = new SharedMemoryTransport();
}

using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>
/// Ranks in threads and in processes of one machine: arenas in shared memory, rows moved by the caller's thread and
/// <see cref="ExpertBufferOptions.WorkerThreads"/>.
/// </summary>
public sealed class CpuBackend : ExpertBackend
{
    internal CpuBackend(CpuTuning tuning)
        : base("cpu") => ScaleUp = new SharedMemoryTransport(tuning);

    /// <summary>The backend; it has no state.</summary>
    public static CpuBackend Instance { get; } = new(new CpuTuning());

    internal override IScaleUpTransport ScaleUp { get; }
}

using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Arenas in sealed, preallocated memfds.</summary>
internal sealed class SharedMemoryTransport : IScaleUpTransport
{
    public ArenaMemory Allocate(long bytes) => SharedMemory.Create(bytes);

    public ArenaMemory Map(ArenaExport export)
    {
        if (export.InProcess is not { } memory) return SharedMemory.Map(export.Descriptor!, export.Bytes);
        memory.AddHolder();
        return memory;
    }

    public IScaleUpEngine CreateEngine(EngineSetup setup) => new CpuEngine(setup);
}

using Switchyard.Interop;
using Switchyard.Rendezvous;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard.Cpu;

/// <summary>Arenas in sealed, preallocated memfds.</summary>
internal sealed class SharedMemoryTransport(CpuTuning tuning) : IScaleUpTransport
{
    /// <summary>The arena's own, and while it is shared that of the export.</summary>
    private const int DescriptorsPerArena = 2;

    public void RequireRoom(long bytes, int arenas)
    {
        ProcessLimits.RequireFileSize(bytes);
        ProcessLimits.RequireAddressSpace(bytes, arenas);
        ProcessLimits.RequireDescriptors(DescriptorsPerArena * arenas, $"to share {arenas} arenas");
        long available = MemoryLimits.AvailableBytes();
        if (bytes <= available / arenas) return;
        throw new TransportException("memfd_create", Libc.ENOMEM,
            $"{arenas} arenas of {bytes} bytes need more than the {available} bytes that are available: lower ExpertBufferOptions.MemoryBudget, or raise the memory limit.");
    }

    public int RowGranularity => 1;

    public ArenaMemory Allocate(long bytes) => SharedMemory.Create(bytes);

    public byte[] Place => ProcessorAffinity.UsableBits();

    public bool Shares(ReadOnlySpan<byte> place, ReadOnlySpan<byte> other)
    {
        for (int i = 0; i < Math.Min(place.Length, other.Length); i++)
        {
            if ((place[i] & other[i]) != 0) return true;
        }
        return false;
    }

    public void RequireReach(byte[][] places)
    {
    }

    public void RequireFit(ExpertBufferOptions options, int neighbours)
    {
    }

    public ArenaMemory Map(ArenaExport export, ReadOnlySpan<byte> place)
    {
        if (export.InProcess is not { } memory)
        {
            // Files were held to their seals and length when they came; what is no file is another backend's memory.
            if (!FileStatus.Of(export.Descriptor!).IsRegular) throw new TransportException("mmap", Libc.ENODEV, "A rank shared what is no memory of the host.");
            return SharedMemory.Map(export.Descriptor!, export.Bytes);
        }
        memory.AddHolder();
        return memory;
    }

    public IScaleUpEngine CreateEngine(EngineSetup setup) => new CpuEngine(setup, tuning);

    public long HandleBytes(ExpertBufferOptions options, int localExperts) => 0;
}

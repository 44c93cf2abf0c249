using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;
using Switchyard.Interop;
using Switchyard.Transports;

namespace Switchyard.Cuda.Engine;

/// <summary>Arenas in the memory of devices that can access each other.</summary>
internal sealed class CudaTransport(int ordinal) : IScaleUpTransport
{
    private CudaRuntime Runtime => CudaRuntime.Of(ordinal);

    public int RowGranularity => DeviceRows.Alignment;

    public byte[] Place => CudaDevice.Get(ordinal).Uuid.ToByteArray();

    /// <summary>
    /// Makes the device's context and kernels, if they are not there yet. What memory lacks is told when it is taken: a device's does not kill who asks
    /// for too much.
    /// </summary>
    public void RequireRoom(long bytes, int arenas) => _ = Guarded(() => Runtime);

    public bool Shares(ReadOnlySpan<byte> place, ReadOnlySpan<byte> other) => place.SequenceEqual(other);

    public void RequireReach(byte[][] places)
    {
        CudaDevice?[] devices = [.. places.Select(place => Visible(place))];
        List<string> missing = [.. places.Index().Where(each => devices[each.Index] is null).Select(each => $"the device of rank {each.Index} ({new Guid(each.Item)}) is not visible here (CUDA_VISIBLE_DEVICES)")];
        missing.AddRange(MissingLinks([.. devices.Select(device => device?.Ordinal)], (from, to) => CudaDevice.Get(from).CanAccess(CudaDevice.Get(to))));
        if (missing.Count > 0) throw new TransportException(nameof(CudaDevice.CanAccess), 0, $"Arenas cannot be reached: {string.Join("; ", missing)}.");
    }

    /// <summary>Every pair of devices that ranks are on of which one does not reach the other, with those ranks.</summary>
    /// <param name="devices">By rank its device; null where this process does not see it.</param>
    /// <param name="reaches">Whether kernels of the first device reach memory of the second.</param>
    internal static IEnumerable<string> MissingLinks(int?[] devices, Func<int, int, bool> reaches)
    {
        int[] all = [.. devices.OfType<int>().Distinct().Order()];
        string Named(int device) => $"device {device} (rank {string.Join(", ", Enumerable.Range(0, devices.Length).Where(rank => devices[rank] == device))})";
        return from one in all
               from other in all
               where one < other && !(reaches(one, other) && reaches(other, one))
               select $"{Named(one)} and {Named(other)} have no direct link";
    }

    public void RequireFit(ExpertBufferOptions options, int neighbours)
    {
        int most = Runtime.Multiprocessors / neighbours;
        if (most == 0)
        {
            throw new TransportException(
                nameof(CudaBackend.For), 0, $"{neighbours} ranks are on device {Runtime.Device.Ordinal}, but it has {Runtime.Multiprocessors} multiprocessors: each rank needs one, since their kernels wait for each other and must run there at once.");
        }
        string why = $"device {Runtime.Device.Ordinal} has {Runtime.Multiprocessors} multiprocessors for the kernels of {neighbours} ranks, which wait for each other and must run there at once";
        if (options.Multiprocessors > most)
            throw new TransportException(nameof(ExpertBufferOptions.Multiprocessors), 0, $"ExpertBufferOptions.Multiprocessors is {options.Multiprocessors}, but must be 1 to {most}: {why}.");
        if (DispatchKernel.LeastBlocks(options.MaxTokensPerRank) > most)
        {
            throw new TransportException(
                nameof(ExpertBufferOptions.MaxTokensPerRank), 0, $"ExpertBufferOptions.MaxTokensPerRank is {options.MaxTokensPerRank}, but must be 1 to {DispatchKernel.MostTokens(most)}: {why}.");
        }
    }

    public ArenaMemory Allocate(long bytes) => Guarded(() =>
    {
        var arena = new CudaArena(Runtime, PhysicalMemory.Create(Runtime.Device, bytes), bytes);
        try
        {
            arena.Clear();
            _ = arena.Descriptor;
        }
        catch
        {
            arena.Release();
            throw;
        }
        return arena;
    });

    public ArenaMemory Map(ArenaExport export, ReadOnlySpan<byte> place)
    {
        if (export.InProcess is CudaArena memory) return Guarded(() => memory.For(Runtime));
        CudaDevice device = Visible(place)!;
        return Guarded(() => new CudaArena(Runtime, PhysicalMemory.Import(export.Descriptor!, device, PhysicalMemory.RoundUp(device, export.Bytes)), export.Bytes));
    }

    public IScaleUpEngine CreateEngine(EngineSetup setup) => Guarded(() => new CudaEngine(setup, Runtime));

    public long HandleBytes(ExpertBufferOptions options, int localExperts) => DevicePlans.BytesFor(options.MaxTokensPerRank * options.TopK, localExperts);

    private static CudaDevice? Visible(ReadOnlySpan<byte> place)
    {
        var uuid = new Guid(place);
        return Enumerable.Range(0, CudaDevice.Count).Select(CudaDevice.Get).FirstOrDefault(device => device.Uuid == uuid);
    }

    /// <summary>What fails here, all ranks must come to know.</summary>
    internal static T Guarded<T>(Func<T> step)
    {
        try
        {
            return step();
        }
        catch (CudaException failure) when (failure.IsOutOfMemory)
        {
            throw new TransportException(failure.Call, Libc.ENOMEM, $"{failure.Message} Lower ExpertBufferOptions.MemoryBudget if the device has not that much.");
        }
        catch (SwitchyardException failure) when (failure is CudaException or CudaUnavailableException)
        {
            throw new TransportException((failure as CudaException)?.Call ?? nameof(CudaBackend.For), Libc.EIO, failure.Message);
        }
    }
}

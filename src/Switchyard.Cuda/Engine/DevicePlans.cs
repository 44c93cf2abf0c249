using Switchyard.Arena;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Engine;

/// <summary>Where a plan lies in device memory.</summary>
/// <param name="Totals">Its <see cref="PlanTotals"/> and the numbers of local experts.</param>
/// <param name="Sent">An entry of 8 bytes for each choice of each token.</param>
/// <param name="ByRank">The same by rank, for plans whose rows are pre-reduced.</param>
internal sealed record DevicePlan(nint Totals, nint Sent, nint ByRank)
{
    /// <summary>Room for this rank's groups of rows to sum, once it was needed.</summary>
    public DeviceMemory? Groups { get; set; }
}

/// <summary>Device memory for plans, taken many at a time: to take memory may wait for kernels that run.</summary>
internal sealed class DevicePlans : IDisposable
{
    private const int EntryBytes = 8;
    private const int First = 8;
    private readonly CudaRuntime _runtime;
    private readonly long _totalsBytes;
    private readonly long _entriesBytes;
    private readonly List<DeviceMemory> _chunks = [];
    private readonly Stack<DevicePlan> _free = new();
    private int _made;

    public DevicePlans(CudaRuntime runtime, int maxChoices, int localExperts)
    {
        _runtime = runtime;
        PlanBytes = BytesFor(maxChoices, localExperts);
        _totalsBytes = TotalsBytes(localExperts);
        _entriesBytes = EntriesBytes(maxChoices);
        Add(First + 1);
        OfRefused = _free.Pop();
    }

    public long PlanBytes { get; }

    /// <summary>The plan of calls that this rank only refuses, as there is no memory for another.</summary>
    public DevicePlan OfRefused { get; }

    /// <summary>What a plan takes.</summary>
    public static long BytesFor(int maxChoices, int localExperts) => TotalsBytes(localExperts) + (2 * EntriesBytes(maxChoices));

    /// <summary>
    /// A plan's place, which stays that plan's. Each chunk doubles what there is, or has one more if there is not the memory for that;
    /// <see cref="OfRefused"/> where there is none at all.
    /// </summary>
    public DevicePlan Take()
    {
        if (_free.Count == 0 && !TryAdd(_made) && !TryAdd(1)) return OfRefused;
        return _free.Pop();
    }

    /// <summary>Sees to a plan's room for so many numbers. Of what it had before kernels may still read, and so it stays.</summary>
    /// <returns>The bytes that it needs, if they are not to be had; otherwise 0.</returns>
    public long LacksForGroups(DevicePlan plan, long numbers)
    {
        long bytes = numbers * sizeof(int);
        if (plan.Groups?.Bytes >= bytes) return 0;
        if (TryAllocate(bytes) is not { } groups) return bytes;
        plan.Groups = groups;
        _chunks.Add(groups);
        return 0;
    }

    public void Dispose()
    {
        foreach (DeviceMemory chunk in _chunks) chunk.Dispose();
    }

    private static long TotalsBytes(int localExperts) => ArenaLayout.AlignUp(PlanTotals.BytesFor(localExperts), 256);

    private static long EntriesBytes(int maxChoices) => ArenaLayout.AlignUp((long)maxChoices * EntryBytes, 256);

    private DeviceMemory? TryAllocate(long bytes)
    {
        try
        {
            return new DeviceMemory(_runtime, bytes);
        }
        catch (CudaException failure) when (failure.IsOutOfMemory)
        {
            return null;
        }
    }

    private bool TryAdd(int plans)
    {
        if (TryAllocate(plans * PlanBytes) is not { } chunk) return false;
        Add(chunk, plans);
        return true;
    }

    private void Add(int plans) => Add(new DeviceMemory(_runtime, plans * PlanBytes), plans);

    private void Add(DeviceMemory chunk, int plans)
    {
        try
        {
            // A plan that no dispatch has made is known by that.
            _runtime.FillNow(chunk.Address, 0, chunk.Bytes);
        }
        catch
        {
            chunk.Dispose();
            throw;
        }
        _chunks.Add(chunk);
        _made += plans;
        for (int plan = plans - 1; plan >= 0; plan--)
        {
            nint start = chunk.Address + (nint)(plan * PlanBytes);
            _free.Push(new DevicePlan(start, start + (nint)_totalsBytes, start + (nint)(_totalsBytes + _entriesBytes)));
        }
    }
}

/// <summary>Memory of a device that no other rank reaches.</summary>
internal sealed class DeviceMemory : IDisposable
{
    private readonly PhysicalMemory _memory;
    private readonly MappedMemory _mapped;

    public DeviceMemory(CudaRuntime runtime, long bytes)
    {
        _memory = PhysicalMemory.Create(runtime.Device, bytes);
        _mapped = MappedMemory.MapOrRelease(_memory, runtime.Device);
    }

    public nint Address => _mapped.Handle;

    public long Bytes => _mapped.Bytes;

    public void Dispose()
    {
        _mapped.Dispose();
        _memory.Dispose();
    }
}

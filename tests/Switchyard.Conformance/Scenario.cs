using System.Runtime.InteropServices;
using Switchyard.Arena;

namespace Switchyard.Conformance;

/// <summary>What a rank has to run a scenario with.</summary>
/// <param name="Group">Its membership.</param>
/// <param name="Backend">The backend under test.</param>
/// <param name="Seed">The same on all ranks.</param>
/// <param name="Device">Where the backend wants its tensors; null: on the host.</param>
public sealed record RankContext(ExpertGroup Group, ExpertBackend Backend, int Seed, DeviceAccess? Device = null)
{
    public int Rank => Group.Rank;

    /// <summary>Draws the same on all ranks.</summary>
    public Random SharedRandom() => new(Seed);

    /// <summary>Draws differently on each rank.</summary>
    public Random OwnRandom() => new((Seed * 131) + Rank);

    /// <summary>
    /// Makes a buffer; unless told otherwise with room for whatever the shape can bring, eight times. Its pool is poisoned: what nobody wrote shows.
    /// </summary>
    public async Task<TestBuffer> CreateAsync<T>(Shape shape, int? capacity = null, long? budget = null)
        where T : unmanaged
    {
        int rows = capacity ?? WorstRows(shape);
        ExpertBuffer buffer = await ExpertBuffer.CreateAsync(Group, Options<T>(shape) with { ReceiveCapacity = rows, MemoryBudget = budget ?? (8 * RegionBytes<T>(shape, rows)) });
        Poison(buffer);
        await Group.BarrierAsync();
        return new TestBuffer(buffer, Device);
    }

    /// <summary>What a result of so many rows takes in the pool at most: rows may be packed ones that are longer than those of the buffer.</summary>
    public long RegionBytes<T>(Shape shape, int rows)
        where T : unmanaged
    {
        long most = rows + ((shape.Alignment - 1) * shape.Experts);
        RegionShape largest = Options<T>(shape).LayoutFor(shape.Ranks).LargestShape;
        return new RegionLayout(most, most, largest with { GroupColumns = shape.TopK, CountWords = 2 + (2 * shape.Experts) }).Bytes + (most * ScaledFormat.MostBytes);
    }

    public static int WorstRows(Shape shape) => shape.Ranks * shape.MaxTokens * shape.TopK;

    private ExpertBufferOptions Options<T>(Shape shape)
        where T : unmanaged => new()
        {
            Backend = Backend,
            // More than such small shapes would take by themselves, so that there is much to share out; of all ranks fewer than any device has.
            Multiprocessors = Math.Min(16, 100 / shape.Ranks),
            Experts = shape.Experts,
            TopK = shape.TopK,
            Hidden = shape.Hidden,
            MaxTokensPerRank = shape.MaxTokens,
            Element = ElementTypes.Of<T>(),
            ExpertRanks = shape.ExpertRanks,
            WorkerThreads = shape.WorkerThreads,
        };

    /// <summary>The shape with hidden rounded up to what the backend can move.</summary>
    public Shape Fit<T>(Shape shape)
        where T : unmanaged => shape with { Hidden = RoundUp(shape.Hidden, Granularity / Math.Min(Granularity, ElementTypes.Of<T>().SizeInBytes())) };

    /// <summary>Rows have a multiple of so many bytes.</summary>
    public int Granularity => Device?.RowGranularity ?? 1;

    public static int RoundUp(int value, int multiple) => (value + multiple - 1) / multiple * multiple;

    private unsafe void Poison(ExpertBuffer buffer)
    {
        byte* pool = buffer.ArenaBase + buffer.Layout.PoolOffset;
        if (Device is null) NativeMemory.Fill(pool, (nuint)buffer.Layout.PoolBytes, 0xA5);
        else Device.Fill((nint)pool, 0xA5, buffer.Layout.PoolBytes);
    }
}

/// <summary>A program that all ranks run and that throws where something is wrong. Known by name, so that another process can run it.</summary>
/// <param name="OnDevices">Whether it also holds for backends of devices.</param>
public sealed record Scenario(string Name, Func<RankContext, Task> RunAsync, bool OnDevices = true)
{
    public static IReadOnlyDictionary<string, Scenario> All { get; } =
        new[] { ExchangeScenarios.All, TrainingScenarios.All, FaultScenarios.All }.SelectMany(each => each).ToDictionary(each => each.Name);
}

using CsCheck;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Planning;
using Switchyard.Topology;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Random options of buffers, good ones of which some were spoilt: refused by the name of one that was, or a layout whose parts add up.</summary>
public sealed class BufferOptionTests
{
    private static readonly int[] _usable = [.. ProcessorAffinity.Usable()];

    /// <summary>Small enough to be allocated a few hundred times.</summary>
    private static readonly Gen<ExpertBufferOptions> _small = Options(ranks: 1, experts: 40, hidden: 64, tokens: 20);

    private static readonly Gen<(int Ranks, ExpertBufferOptions Options)> _any =
        Gen.Int[1, Limits.MaxRanks].SelectMany(ranks => Options(ranks, Limits.MaxExperts, 10000, 5000).Select(options => (ranks, options)));

    private static readonly Gen<Spoilt[]> _spoils = Gen.OneOf(Spoils()).Array[0, 2];

    [Fact]
    public void An_estimate_names_what_is_wrong_or_adds_up() => Gen.Select(_any, _spoils).Sample((each, spoils) =>
    {
        (int ranks, ExpertBufferOptions options) = each;
        foreach (Spoilt spoilt in spoils) options = spoilt.Spoil(options, ranks);
        if (spoils.Length > 0) NamesOneOf(spoils, Assert.ThrowsAny<ArgumentException>(() => options.EstimateMemory(ranks)));
        else AddsUp(options, ranks, options.EstimateMemory(ranks));
    }, iter: 3000);

    [Fact]
    public async Task A_buffer_is_refused_by_name_or_is_what_was_estimated_and_works()
    {
        using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        await Gen.Select(_small, _spoils).SampleAsync(async (options, spoils) =>
        {
            foreach (Spoilt spoilt in spoils) options = spoilt.Spoil(options, 1);
            if (spoils.Length > 0)
            {
                NamesOneOf(spoils, await Assert.ThrowsAnyAsync<ArgumentException>(() => ExpertBuffer.CreateAsync(group, options)));
                return;
            }
            using ExpertBuffer buffer = await ExpertBuffer.CreateAsync(group, options);
            Assert.Equal(options.EstimateMemory(1).ArenaBytes, buffer.Layout.TotalBytes);
            Assert.Equal(Enumerable.Range(0, options.Experts), buffer.LocalExperts.ToArray());
            ReturnsARow(buffer);
        }, iter: 200, threads: 1);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(Limits.MaxRanks + 1)]
    public void An_estimate_is_for_a_group_that_can_be(int ranks) => _small.Sample(options =>
    {
        ArgumentOutOfRangeException error = Assert.Throws<ArgumentOutOfRangeException>(nameof(ranks), () => options.EstimateMemory(ranks));
        Assert.Contains("64", error.Message, StringComparison.Ordinal);
    }, iter: 10);

    private static Gen<ExpertBufferOptions> Options(int ranks, int experts, int hidden, int tokens) =>
        from expertCount in Gen.Int[1, experts]
        from topK in Gen.Int[1, Math.Min(Limits.MaxTopK, expertCount)]
        from rowLength in Gen.Int[1, hidden]
        from tokenCount in Gen.Int[1, tokens]
        from element in Gen.OneOf(ElementType.BFloat16, ElementType.Half, ElementType.Single)
        from expertRanks in Gen.Int[0, ranks - 1].Array[expertCount].Null()
        from capacity in Gen.Int[1, 1 << 20].Nullable()
        from budget in Gen.Long[1 << 22, 1 << 24].Nullable()
        from threads in Gen.Int[1, 4].Nullable()
        from affinity in Gen.OneOf(_usable).Array[1, 3].Null()
        select new ExpertBufferOptions
        {
            Backend = CpuBackend.Instance,
            Experts = expertCount,
            TopK = topK,
            Hidden = rowLength,
            MaxTokensPerRank = tokenCount,
            Element = element,
            ExpertRanks = expertRanks,
            ReceiveCapacity = capacity,
            MemoryBudget = budget,
            WorkerThreads = threads,
            CpuAffinity = affinity,
        };

    /// <summary>Of each option the values next to what is allowed, and some from far away.</summary>
    private static Spoilt[] Spoils() =>
    [
        new("Experts", (options, _) => options with { Experts = 0 }),
        new("Experts", (options, _) => options with { Experts = Limits.MaxExperts + 1 }),
        new("TopK", (options, _) => options with { TopK = 0 }),
        new("TopK", (options, _) => options with { TopK = Math.Clamp(options.Experts, 0, Limits.MaxTopK) + 1 }),
        new("Hidden", (options, _) => options with { Hidden = 0 }),
        new("Hidden", (options, _) => options with { Hidden = Limits.MaxHidden + 1 }),
        new("MaxTokensPerRank", (options, _) => options with { MaxTokensPerRank = 0 }),
        new("MaxTokensPerRank", (options, _) => options with { MaxTokensPerRank = MostTokens(options) + 1 }),
        new("Element", (options, _) => options with { Element = ElementType.Float8E4M3 }),
        new("Element", (options, _) => options with { Element = (ElementType)200 }),
        new("ExpertRanks", (options, _) => options with { ExpertRanks = new int[options.Experts + 1] }),
        new("ExpertRanks", (options, _) => options with { ExpertRanks = new int[Math.Max(options.Experts - 1, 0)] }),
        new("ExpertRanks", (options, ranks) => options with { ExpertRanks = [.. Enumerable.Repeat(0, Math.Max(options.Experts - 1, 0)), ranks] }),
        new("ExpertRanks", (options, _) => options with { ExpertRanks = [.. Enumerable.Repeat(0, Math.Max(options.Experts - 1, 0)), -1] }),
        new("ReceiveCapacity", (options, _) => options with { ReceiveCapacity = 0 }),
        new("ReceiveCapacity", (options, _) => options with { ReceiveCapacity = Limits.MaxReceiveRows + 1 }),
        new("MemoryBudget", (options, _) => options with { MemoryBudget = -1 }),
        new("MemoryBudget", (options, _) => options with { MemoryBudget = (1L << 46) + 1 }),
        new("Deadline", (options, _) => options with { Deadline = TimeSpan.Zero }),
        new("Deadline", (options, _) => options with { Deadline = TimeSpan.FromDays(1) + TimeSpan.FromTicks(1) }),
        new("WorkerThreads", (options, _) => options with { WorkerThreads = 0 }),
        new("WorkerThreads", (options, _) => options with { WorkerThreads = Limits.MaxWorkerThreads + 1 }),
        new("CpuAffinity", (options, _) => options with { CpuAffinity = [] }),
        new("CpuAffinity", (options, _) => options with { CpuAffinity = [_usable[0], _usable.Max() + 1] }),
        new("CpuAffinity", (options, _) => options with { CpuAffinity = [-1] }),
        new("Backend", (options, _) => options with { Backend = null! }),
    ];

    private static int MostTokens(ExpertBufferOptions options) => Math.Min(Limits.MaxTokensPerRank, Limits.MaxRowsPerPeer / Math.Max(1, options.TopK));

    private static void NamesOneOf(Spoilt[] spoils, ArgumentException error)
    {
        Assert.Contains(error.ParamName, spoils.Select(spoilt => spoilt.Option));
        Assert.Contains(error.ParamName!, error.Message.Split('(')[0], StringComparison.Ordinal);
    }

    private static void AddsUp(ExpertBufferOptions options, int ranks, MemoryEstimate estimate)
    {
        ArenaLayout layout = options.LayoutFor(ranks);
        Assert.Equal(layout.TotalBytes, estimate.ArenaBytes);
        Assert.Equal(estimate.ControlBytes + estimate.PoolBytes, estimate.ArenaBytes);
        Assert.Equal(layout.PoolOffset, estimate.ControlBytes);
        Assert.InRange(estimate.PoolBytes - (options.MemoryBudget ?? (3 * estimate.ResultBytes)), 0, ArenaLayout.PageBytes - 1);

        // A result of that many rows fits into what is told, and into nothing less.
        Assert.True(RegionLayout.MaxRows(estimate.ResultBytes, layout.LargestShape) >= estimate.ReceiveCapacity);
        Assert.True(RegionLayout.MaxRows(estimate.ResultBytes - 1, layout.LargestShape) < estimate.ReceiveCapacity);
        CapacitySuffices(options, ranks, estimate.ReceiveCapacity);

        var entries = new RowEntries(options.MaxTokensPerRank, options.TopK);
        Assert.Equal(sizeof(int) * (entries.End.Length + entries.Rank.Length + entries.Row.Length + entries.Choice.Length), estimate.HandleBytes);
    }

    /// <summary>Unless it was given: rank-major always fits, twice the average of expert-major too, and nothing is kept for what cannot come.</summary>
    private static void CapacitySuffices(ExpertBufferOptions options, int ranks, int capacity)
    {
        if (options.ReceiveCapacity is { } given)
        {
            Assert.Equal(given, capacity);
            return;
        }
        ExpertPlacement placement = options.PlacementFor(ranks);
        Assert.Equal(options.Experts, Enumerable.Range(0, ranks).Sum(rank => placement.ExpertsOf(rank).Length));
        int held = Enumerable.Range(0, ranks).Max(rank => placement.ExpertsOf(rank).Length);
        long tokens = ranks * (long)options.MaxTokensPerRank, most = tokens * Math.Min(held, options.TopK);
        Assert.InRange(capacity, Math.Min(most, tokens), most);
        Assert.True(capacity >= Math.Min(most, 2L * options.MaxTokensPerRank * options.TopK));
        Assert.True(capacity <= Math.Max(tokens, 2L * options.MaxTokensPerRank * options.TopK));
    }

    private static void ReturnsARow(ExpertBuffer buffer)
    {
        int hidden = buffer.Options.Hidden;
        byte[] sent = [.. Enumerable.Range(0, hidden * buffer.Options.Element.SizeInBytes()).Select(i => (byte)(i % 32))];
        int[] choices = [.. Enumerable.Range(0, buffer.Options.TopK).Select(k => k == 0 ? buffer.Options.Experts - 1 : -1)];
        using Dispatched d = buffer.Dispatch(new ScaledRows(sent), choices, default, new() { Layout = RowLayout.ExpertMajor });
        Assert.Equal(sent, d.Rows.AsSpan<byte>().ToArray());
    }

    /// <summary>A change that makes an option bad, in a group of so many ranks.</summary>
    private sealed record Spoilt(string Option, Func<ExpertBufferOptions, int, ExpertBufferOptions> Spoil);
}

using System.Runtime.InteropServices;
using CsCheck;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Topology;
using Switchyard.Transports;
using Xunit;

namespace Switchyard.Tests;

/// <summary>A rank's own part in its receive region, without an exchange: rank 0 of two that each choose some of six experts.</summary>
public sealed unsafe class ReceiveRegionTests : IDisposable
{
    private const int Ranks = 2;
    private const int TopK = 3;
    private const int Tokens = 5;
    private const byte Untouched = 0xA5;

    private static readonly ExpertBufferOptions _options = new()
    {
        Backend = CpuBackend.Instance,
        Experts = 6,
        TopK = TopK,
        Hidden = 4,
        MaxTokensPerRank = Tokens,
        Element = ElementType.Single,
        MemoryBudget = 1 << 16,
    };

    private readonly ExpertGroup[] _groups = ExpertGroup.CreateLocal(Ranks);
    private readonly ArenaLayout _layout = _options.LayoutFor(Ranks);
    private readonly ArenaMemory[] _arenas;
    private HostProtocol _protocol;

    public ReceiveRegionTests()
    {
        _arenas = [.. _groups.Select(_ => _options.Backend.ScaleUp.Allocate(_layout.TotalBytes))];
        _protocol = NewProtocol();
    }

    public void Dispose()
    {
        _protocol.Dispose();
        foreach (ArenaMemory arena in _arenas) arena.Release();
        foreach (ExpertGroup group in _groups) group.Dispose();
    }

    [Fact]
    public void What_nobody_sends_is_prepared_and_nothing_else_is_touched() =>
        Gen.Int[0, 1000000].Sample(seed =>
        {
            var random = new Random(seed);
            bool isExpertMajor = random.Next(2) == 0;
            var format = new RowFormat(random.Next(1, 20), random.Next(3) * 4, ElementType.Byte, ElementType.Single, (ScaleLayout)random.Next(2));
            RoutingPlan plan = Plan(random, new()
            {
                Layout = isExpertMajor ? RowLayout.ExpertMajor : RowLayout.RankMajor,
                ExpertAlignment = isExpertMajor ? random.Next(1, 6) : 1,
                ZeroPadding = isExpertMajor && random.Next(2) == 0,
                FixedShape = random.Next(2) == 0,
            });
            ReceiveCall call = Call(plan, format, hasMetadata: random.Next(2) == 0);
            Pool.Fill(Untouched);
            new ReceiveRegion(_protocol).Prepare(call);
            Assert.Equal(Prepared(call), Pool[..(int)call.Region.Bytes].ToArray());
            Assert.Equal(-1, Pool[(int)call.Region.Bytes..].IndexOfAnyExcept(Untouched));
        }, iter: 1000, threads: 1);

    [Fact]
    public void Groups_are_taken_over_and_those_of_rows_that_cannot_be_name_their_writer() =>
        Gen.Select(Gen.Int[0, 1000000], Gen.Int[1, 5]).Sample((seed, alignment) =>
        {
            var random = new Random(seed);
            RoutingPlan plan = Plan(random, new() { Layout = RowLayout.ExpertMajor, ExpertAlignment = alignment, PreReduce = true });
            ReceiveCall call = Call(plan, _layout.Format, hasMetadata: true);
            int rows = (int)plan.TotalRows[0], groups = (int)plan.TotalTokens[0];
            if (groups == 0) return;
            Span<int> written = MemoryMarshal.Cast<byte, int>(Pool[(int)call.Region.GroupsOffset..])[..(groups * TopK)];
            for (int i = 0; i < written.Length; i++) written[i] = random.Next(-1, rows);
            new ReceiveRegion(_protocol).TakeGroups(call);
            Assert.Equal(written.ToArray(), plan.Groups[..written.Length]);

            int group = random.Next(groups), writer = group < plan.TokensFrom[0] ? 0 : 1, place = (group * TopK) + random.Next(TopK);
            written.Slice(group * TopK, TopK).Fill(rows - 1);
            written[place] = random.Next(2) == 0 ? rows : -2;
            ProtocolException error = Assert.Throws<ProtocolException>(() => new ReceiveRegion(_protocol).TakeGroups(call));
            Assert.Equal(writer, error.Peer);
            Renew();
        }, iter: 300, threads: 1);

    private Span<byte> Pool => new((byte*)_arenas[0].Address + _layout.PoolOffset, (int)_layout.PoolBytes);

    private HostProtocol NewProtocol() => new(new EngineSetup(_groups[0].Channel, _layout, _arenas, _options, Neighbours: 1));

    /// <summary>Takes back the fault that was raised.</summary>
    private void Renew()
    {
        _protocol.Dispose();
        foreach (ArenaMemory arena in _arenas) new Span<byte>((byte*)arena.Address, (int)_layout.PoolOffset).Clear();
        _protocol = NewProtocol();
    }

    private ReceiveCall Call(RoutingPlan plan, RowFormat format, bool hasMetadata) => new()
    {
        Epoch = 1,
        Plan = plan,
        RegionOffset = _layout.PoolOffset,
        Region = plan.RegionOf(0, format),
        HasMetadata = hasMetadata,
        ZeroPadding = plan.Options.ZeroPadding,
        Site = new CallSite(Operation.Dispatch, CallPhase.AwaitRows, 1),
    };

    private RoutingPlan Plan(Random random, DispatchOptions options)
    {
        var placement = new ExpertPlacement(_options.Experts, Ranks);
        var counts = new CountMatrix(Ranks, _options.Experts);
        var plans = new RoutingPlan[Ranks];
        for (int rank = 0; rank < Ranks; rank++)
        {
            int tokens = random.Next(Tokens + 1);
            int[] choices = [.. Enumerable.Range(0, tokens).SelectMany(_ => Choose(random))];
            plans[rank] = new RoutingPlan(null!, _layout, placement, rank, Tokens, receiveCapacity: Ranks * Tokens * TopK);
            plans[rank].Begin(options, tokens);
            RoutingPlanner.Count(plans[rank], choices, new ExpertMarks(_options.Experts));
            plans[rank].TokensTo.CopyTo(counts.TokensFrom(rank));
            plans[rank].ChoicesOf.CopyTo(counts.ChoicesFrom(rank));
        }
        counts.SumFor(0);
        RoutingPlanner.Totals(plans[0], counts);
        RoutingPlanner.Resolve(plans[0], 0, counts, new int[_options.Experts]);
        return plans[0];
    }

    private static int[] Choose(Random random)
    {
        int[] experts = [-1, -1, 0, 1, 2, 3, 4, 5];
        random.Shuffle(experts);
        return experts[..TopK];
    }

    /// <summary>What must stand in the region, put together a row at a time.</summary>
    private static byte[] Prepared(ReceiveCall call)
    {
        byte[] region = new byte[call.Region.Bytes];
        Array.Fill(region, Untouched);
        for (int row = 0; row < call.Region.Rows; row++)
        {
            bool isPadding = IsPadding(call.Plan, row);
            if (call.HasMetadata && (isPadding || row >= call.Plan.TotalRows[0])) MarkAbsent(region, call.Region, row);
            if (isPadding && call.ZeroPadding) Zero(region, call.Region, row);
        }
        if (!call.Plan.IsFixedShape || !call.HasMetadata) return region;
        bool isExpertMajor = call.Plan.Layout == RowLayout.ExpertMajor;
        int[] offsets = isExpertMajor ? call.Plan.ExpertOffsets : new int[call.Plan.ExpertOffsets.Length];
        int[] counts = [(int)call.Plan.TotalRows[0], .. call.Plan.TokensPerExpert, .. offsets];
        MemoryMarshal.AsBytes<int>(counts).CopyTo(region.AsSpan((int)call.Region.CountsOffset));
        return region;
    }

    private static bool IsPadding(RoutingPlan plan, int row)
    {
        if (plan.Layout == RowLayout.RankMajor || row >= plan.TotalRows[0]) return false;
        int expert = Array.FindLastIndex(plan.ExpertOffsets, first => first <= row);
        return row >= plan.ExpertOffsets[expert] + plan.TokensPerExpert[expert];
    }

    private static void MarkAbsent(byte[] region, RegionLayout layout, int row)
    {
        int columns = layout.Shape.Columns;
        region.AsSpan((int)layout.SourcesOffset + (row * 8), 8).Fill(0xFF);
        region.AsSpan((int)layout.IndicesOffset + (row * columns * 4), columns * 4).Fill(0xFF);
        region.AsSpan((int)layout.WeightsOffset + (row * columns * 4), columns * 4).Clear();
    }

    private static void Zero(byte[] region, RegionLayout layout, int row)
    {
        RowFormat format = layout.Shape.Format;
        region.AsSpan(row * format.RowBytes, format.RowBytes).Clear();
        int column = (int)(format.ScaleBytes == 0 ? 0 : format.ScaleColumnBytes(layout.Rows));
        for (int scale = 0; scale < format.ScalesPerRow; scale++)
        {
            int at = format.ScaleLayout == ScaleLayout.RowMajor ? (row * format.ScaleBytes) + (scale * 4) : (scale * column) + (row * 4);
            region.AsSpan((int)layout.ScalesOffset + at, 4).Clear();
        }
    }
}

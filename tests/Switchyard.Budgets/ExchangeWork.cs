using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Cpu.Vectors;
using Switchyard.MicroBenchmarks.Inputs;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Budgets;

/// <summary>
/// A rank's own work for one exchange among four, top-8 of 64 experts. Rows are short where they are pushed: what is counted there is what
/// comes with each row.
/// </summary>
internal static unsafe class ExchangeWork
{
    private const int Ranks = 4;
    private const int Experts = 64;
    private const int PlannedTokens = 1024;
    private const int PushedTokens = 64;
    private const int Hidden = 64;

    public static IEnumerable<(string Name, Action Work)> All()
    {
        (string Name, DispatchOptions Options)[] kinds =
        [
            ("rank-major", new() { Layout = RowLayout.RankMajor }),
            ("expert-major", new() { Layout = RowLayout.ExpertMajor }),
            ("pre-reduced", new() { Layout = RowLayout.ExpertMajor, PreReduce = true }),
        ];
        foreach ((string name, DispatchOptions options) in kinds)
        {
            yield return ($"plan-{name}", Plan(options));
            yield return ($"push-{name}", Push(options));
        }
        yield return ("pool-take-and-return", TakeAndReturn());
    }

    private static Action Plan(DispatchOptions options)
    {
        var routing = new RoutingInput(Ranks, PlannedTokens, Experts, Hidden, options);
        return () =>
        {
            routing.Count();
            routing.Resolve();
        };
    }

    private static Action Push(DispatchOptions options)
    {
        var routing = new RoutingInput(Ranks, PushedTokens, Experts, Hidden, options);
        RoutingPlan plan = routing.Plan;
        var rows = new ElementRows<BFloat16>(PushedTokens, Hidden);
        var weights = new ElementRows<float>(PushedTokens, RoutingInput.TopK);

        var agreement = new Agreement(Ranks);
        for (int rank = 0; rank < Ranks; rank++) agreement.Regions[rank] = plan.RegionOf(rank, new RowFormat(Hidden, ElementType.BFloat16));
        long poolBytes = agreement.Regions.Max(region => region.Bytes);
        var layout = new ArenaLayout(Ranks, Experts, RoutingInput.TopK, Hidden, ElementType.BFloat16, poolBytes);
        Array.Fill(agreement.RegionOffsets, layout.PoolOffset);
        IEnumerable<ArenaMemory> memories = Enumerable.Range(0, Ranks).Select(_ => SharedMemory.Create(layout.TotalBytes));
        var arenas = new PeerArenas(RoutingInput.Rank, layout, [.. memories]);
        var job = new PushJob(arenas, VectorWidth.Bits256)
        {
            Streams = true,
            Call = new PushCall
            {
                Epoch = 1,
                Plan = plan,
                Agreement = agreement,
                Rows = new RowMemory((nint)rows[0], rows.RowBytes),
                Scales = default,
                Quantize = Float8Scaling.None,
                TopkIndices = (int*)Marshal.UnsafeAddrOfPinnedArrayElement(routing.Choices, 0),
                TopkWeights = (float*)weights[0],
            },
        };
        return () => job.Run(0, PushedTokens);
    }

    private static Action TakeAndReturn()
    {
        var pool = new RegionPool(0, 64 << 20);
        long epoch = 0;
        return () =>
        {
            for (int call = 0; call < 64; call++)
            {
                Region rows = pool.Trim(pool.Take(8 << 20), 5 << 20), results = pool.Take(5 << 20);
                pool.Return(rows, readUntil: 0);
                pool.Return(results, readUntil: ++epoch);
                pool.Settle(epoch - 2);
            }
        };
    }
}

using BenchmarkDotNet.Attributes;
using Switchyard.Arena;

namespace Switchyard.MicroBenchmarks;

/// <summary>What a step takes from an arena's pool: a receive region, trimmed to what came, and a region for results.</summary>
public class PoolBenchmarks
{
    private const long MiB = 1 << 20;

    private readonly Queue<(Region Rows, Region Results)> _live = new();
    private RegionPool _pool = null!;
    private long _epoch;

    /// <summary>Steps whose regions are in use at a time: 1 in inference, one a layer in training.</summary>
    [Params(1, 24)]
    public int LiveSteps { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _pool = new RegionPool(0, 1024 * MiB);
        for (int step = 1; step < LiveSteps; step++) _live.Enqueue(Take());
    }

    [Benchmark]
    public void TakeAndReturn()
    {
        _live.Enqueue(Take());
        (Region rows, Region results) = _live.Dequeue();
        _pool.Return(rows, readUntil: 0);
        _pool.Return(results, readUntil: ++_epoch);
        _pool.Settle(_epoch - 2);
    }

    private (Region Rows, Region Results) Take() => (_pool.Trim(_pool.Take(8 * MiB), 5 * MiB), _pool.Take(5 * MiB));
}

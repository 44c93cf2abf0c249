using CsCheck;
using Switchyard.Arena;
using Xunit;

namespace Switchyard.Tests;

public class RegionPoolTests
{
    private const long Offset = 4096;
    private const long Bytes = 64 * 100;

    [Fact]
    public void Regions_never_overlap_and_nothing_is_lost() =>
        Gen.Int[0, 1000000].Sample(seed =>
        {
            var pool = new RegionPool(Offset, Bytes);
            List<Region> live = [];
            Run(seed, pool, live);
            live.ForEach(region => pool.Return(region, 0));
            pool.Settle(long.MaxValue);
            Assert.Equal(Bytes, pool.LongestRun());
        }, iter: 500);

    [Fact]
    public void The_same_calls_take_the_same_memory() =>
        Gen.Int[0, 1000000].Sample(seed => Assert.Equal(Run(seed, new(Offset, Bytes), []), Run(seed, new(Offset, Bytes), [])), iter: 100);

    [Fact]
    public void Memory_that_is_read_is_taken_last_and_says_for_whom_to_wait()
    {
        var pool = new RegionPool(Offset, Bytes);
        Region first = pool.Take(Bytes / 2);
        pool.Return(first, readUntil: 7);
        Region second = pool.Take(Bytes / 2);
        Assert.Equal(0, second.ReadUntil);
        Assert.NotEqual(first.Offset, second.Offset);
        Region third = pool.Take(Bytes / 2);
        Assert.Equal((first.Offset, 7), (third.Offset, third.ReadUntil));
    }

    private static List<Region> Run(int seed, RegionPool pool, List<Region> live)
    {
        var random = new Random(seed);
        var taken = new List<Region>();
        for (int step = 0; step < 60; step++)
        {
            if (random.Next(3) > 0)
            {
                Region region = pool.Take(64 * random.Next(1, 30));
                if (region.Bytes > 0 && random.Next(2) == 0) region = pool.Trim(region, 64 * random.NextInt64(region.Bytes / 64));
                if (region.Bytes == 0) continue;
                Assert.True(region.Offset >= Offset && region.Offset + region.Bytes <= Offset + Bytes);
                Assert.DoesNotContain(live, other => other.Offset < region.Offset + region.Bytes && region.Offset < other.Offset + other.Bytes);
                live.Add(region);
                taken.Add(region);
            }
            else if (live.Count > 0)
            {
                int at = random.Next(live.Count);
                pool.Return(live[at], readUntil: random.Next(step + 1));
                live.RemoveAt(at);
            }
            if (random.Next(5) == 0) pool.Settle(step / 2);
        }
        return taken;
    }
}

using Switchyard.Conformance;
using Xunit;

namespace Switchyard.RankHost;

/// <summary>
/// A million steps in which no thread of the process allocates a byte and nothing is collected. What the runtime counts is of the whole process,
/// so it has one to itself.
/// </summary>
internal static class MillionSteps
{
    public const string Name = "million-steps";

    private const int WarmUp = 20_000;
    private const int Steps = 1_000_000;

    public static async Task RunAsync(RankContext rank)
    {
        var shape = new Shape(rank.Group.Size, 8, 2, 16, 2, RowLayout.ExpertMajor, 2, Routing.Uniform) { PreReduce = true, ZeroPadding = true, WorkerThreads = 2 };
        using ExpertBuffer buffer = (await rank.CreateAsync<BFloat16>(shape)).Inner;
        BFloat16[] x = new BFloat16[2 * 16], output = new BFloat16[2 * 16];
        int[] choices = [0, 5, 3, 6];
        for (int step = 0; step < WarmUp; step++) Step(buffer, shape, x, choices, output);
        await rank.Group.BarrierAsync();

        int collections = GC.CollectionCount(0);
        long allocated = GC.GetTotalAllocatedBytes(precise: true);
        for (int step = 0; step < Steps; step++) Step(buffer, shape, x, choices, output);
        // The runtime itself allocates a little now and then; a byte a step would be a million.
        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - allocated, 0, Steps / 100);
        Assert.Equal(collections, GC.CollectionCount(0));
        await rank.Group.BarrierAsync();
    }

    private static void Step(ExpertBuffer buffer, Shape shape, BFloat16[] x, int[] choices, BFloat16[] output)
    {
        using Dispatched d = buffer.Dispatch(x, choices, default, shape.Options);
        buffer.Combine(d.ResultRows, d.Handle, output);
    }
}

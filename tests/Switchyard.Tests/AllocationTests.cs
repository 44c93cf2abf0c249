using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

/// <summary>A step allocates nothing once its plans and results are pooled: garbage collections would stall all ranks.</summary>
public class AllocationTests
{
    private const int Ranks = 2;
    private const int Steps = 2000;

    [Theory]
    [InlineData(RowLayout.RankMajor, false, Float8Scaling.None)]
    [InlineData(RowLayout.ExpertMajor, false, Float8Scaling.None)]
    [InlineData(RowLayout.ExpertMajor, true, Float8Scaling.None)]
    [InlineData(RowLayout.RankMajor, false, Float8Scaling.Single)]
    [InlineData(RowLayout.ExpertMajor, false, Float8Scaling.Packed)]
    public async Task A_step_allocates_nothing(RowLayout layout, bool preReduce, Float8Scaling quantize)
    {
        var options = new DispatchOptions { Layout = layout, PreReduce = preReduce, Quantize = quantize };
        long[] allocated = new long[Ranks];
        Task[] ranks = [.. ExpertGroup.CreateLocal(Ranks).Select(group => Task.Factory.StartNew(
            () => allocated[group.Rank] = AllocatedBySteps(group, options), TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        await Task.WhenAll(ranks);
        Assert.Equal(new long[Ranks], allocated);
    }

    private static long AllocatedBySteps(ExpertGroup group, DispatchOptions options)
    {
        using ExpertGroup member = group;
        using ExpertBuffer buffer = ExpertBuffer.CreateAsync(group, new ExpertBufferOptions
        {
            Backend = CpuBackend.Instance,
            Experts = 8,
            TopK = 2,
            Hidden = 32,
            MaxTokensPerRank = 16,
            Element = ElementType.BFloat16,
        }).GetAwaiter().GetResult();
        BFloat16[] x = new BFloat16[16 * 32], output = new BFloat16[16 * 32];
        int[] choices = [.. Enumerable.Range(0, 32).Select(choice => choice * 3 % 8)];
        float[] weights = new float[32], reduced = new float[32];
        for (int step = 0; step < 100; step++) Step(buffer, options, x, choices, weights, output, reduced);
        group.BarrierAsync().GetAwaiter().GetResult();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int step = 0; step < Steps; step++) Step(buffer, options, x, choices, weights, output, reduced);
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    private static void Step(ExpertBuffer buffer, DispatchOptions options, BFloat16[] x, int[] choices, float[] weights, BFloat16[] output, float[] reduced)
    {
        using Dispatched d = buffer.Dispatch(x, choices, weights, options);
        buffer.Combine(d.ResultRows, d.Handle, output);
        using Dispatched gradient = buffer.Dispatch(x, d.Handle);
        buffer.Combine(gradient.Rows, d.Handle, output, new() { RowWeights = d.TopkWeights, ReducedWeights = reduced });
    }
}

using Switchyard.Reference;
using Xunit;

namespace Switchyard.Conformance;

/// <summary>Results that live long, handles that live longer, memory that is reused in between.</summary>
internal static class TrainingScenarios
{
    private const int Layers = 4;

    public static Scenario[] All =>
    [
        new("backward", ForwardThenBackwardAsync),
        new("tight-pool", ReusesMemoryThatPeersReadAsync),
        new("two-buffers", TwoBuffersOfAGroupAsync),
    ];

    /// <summary>Layers forward, each result kept; then backward with cached dispatches, in a pool that holds little more than that.</summary>
    private static async Task ForwardThenBackwardAsync(RankContext rank)
    {
        Random random = rank.SharedRandom();
        for (int round = 0; round < 4; round++)
        {
            Shape shape = rank.Fit<float>(Shape.Draw(random, rank.Group.Size));
            long budget = (Layers + 4) * rank.RegionBytes<float>(shape, RankContext.WorstRows(shape));
            using TestBuffer buffer = await rank.CreateAsync<float>(shape, budget: budget);
            var kept = new List<(TestResult Result, ReferenceTokens<float>[] Tokens, List<ReferenceRow<float>>[] Received)>();
            for (int layer = 0; layer < Layers; layer++) kept.Add(Forward(rank, buffer, shape, random));
            for (int layer = Layers - 1; layer >= 0; layer--)
            {
                (TestResult result, ReferenceTokens<float>[] tokens, List<ReferenceRow<float>>[] received) = kept[layer];
                Check.Received(received[rank.Rank], result, shape, hasMetadata: true);
                Backward(rank, buffer, shape, random, result, tokens, received);
            }
            await rank.Group.BarrierAsync();
        }
    }

    private static (TestResult, ReferenceTokens<float>[], List<ReferenceRow<float>>[]) Forward(RankContext rank, TestBuffer buffer, Shape shape, Random random)
    {
        ReferenceTokens<float>[] tokens = Workload.Draw<float>(random, shape);
        List<ReferenceRow<float>>[] received = shape.Reference().Dispatch(tokens);
        ReferenceTokens<float> mine = tokens[rank.Rank];
        TestResult d = buffer.Dispatch(Workload.Flat(mine.X), Workload.Flat(mine.Choices), Workload.Flat(mine.Weights), shape.Options);
        Check.Received(received[rank.Rank], d, shape, hasMetadata: true);
        float[][][] results = [.. received.Select(rows => Workload.DrawRows<float>(random, rows.Count, shape.Hidden))];
        float[] output = Workload.Poisoned<float>(mine.X.Length * shape.Hidden);
        buffer.Combine(Workload.Lengthened(Workload.Flat(results[rank.Rank]), d.RowCount * shape.Hidden), d.Handle, output);
        Check.Equal<float>(Workload.Flat(shape.Reference().Combine(tokens, received, results, shape.Hidden)[rank.Rank]), output, "forward");
        return (d, tokens, received);
    }

    private static void Backward(
        RankContext rank, TestBuffer buffer, Shape shape, Random random, TestResult forward, ReferenceTokens<float>[] tokens, List<ReferenceRow<float>>[] received)
    {
        ReferenceTokens<float>[] gradients = [.. tokens.Select(each => each with { X = Workload.DrawRows<float>(random, each.X.Length, shape.Hidden) })];
        List<ReferenceRow<float>>[] expected = shape.Reference().Dispatch(gradients);
        float[][][] results = [.. expected.Select(rows => Workload.DrawRows<float>(random, rows.Count, shape.Hidden))];
        DispatchHandle handle = forward.Handle.Keep();
        using (TestResult g = buffer.Dispatch(Workload.Flat(gradients[rank.Rank].X), handle))
        {
            Check.Received(expected[rank.Rank], g, shape, hasMetadata: false);
            forward.Dispose();
            Assert.Throws<ObjectDisposedException>(() => forward.RowCount);
            TensorView resultRows = g.ResultRows;
            Workload.Flat(results[rank.Rank]).CopyTo(resultRows.AsSpan<float>());
            float[] output = Workload.Poisoned<float>(tokens[rank.Rank].X.Length * shape.Hidden);
            buffer.Combine(resultRows, handle, output);
            Check.Equal<float>(Workload.Flat(shape.Reference().Combine(gradients, expected, results, shape.Hidden)[rank.Rank]), output, "backward");
        }
        handle.Dispose();
        Assert.Throws<ObjectDisposedException>(() => handle.Tokens);
        Assert.Equal(expected[rank.Rank].Count, received[rank.Rank].Count);
    }

    /// <summary>
    /// A pool with room for one region alone: each dispatch takes memory that slow peers may still be reading from the combine before. Rows are
    /// overwritten as soon as the region is given back, so that a reader that was not waited for reads poison.
    /// </summary>
    private static async Task ReusesMemoryThatPeersReadAsync(RankContext rank)
    {
        Shape shape = rank.Fit<BFloat16>(new Shape(rank.Group.Size, 6, 2, 257, 12, RowLayout.ExpertMajor, 1, Routing.Uniform));
        Random random = rank.SharedRandom(), dawdle = rank.OwnRandom();
        using TestBuffer buffer = await rank.CreateAsync<BFloat16>(shape, budget: rank.RegionBytes<BFloat16>(shape, RankContext.WorstRows(shape)));
        for (int step = 0; step < 60; step++)
        {
            ReferenceTokens<BFloat16>[] tokens = Workload.Draw<BFloat16>(random, shape);
            List<ReferenceRow<BFloat16>>[] received = shape.Reference().Dispatch(tokens);
            BFloat16[][][] results = [.. received.Select(rows => Workload.DrawRows<BFloat16>(random, rows.Count, shape.Hidden))];
            ReferenceTokens<BFloat16> mine = tokens[rank.Rank];
            BFloat16[] output = Workload.Poisoned<BFloat16>(mine.X.Length * shape.Hidden);
            TestResult d = buffer.Dispatch(Workload.Flat(mine.X), Workload.Flat(mine.Choices), Workload.Flat(mine.Weights), shape.Options);
            Check.Received(received[rank.Rank], d, shape, hasMetadata: true);
            TensorView resultRows = d.Rows;
            Workload.Flat(results[rank.Rank]).CopyTo(resultRows.AsSpan<BFloat16>());
            if (dawdle.Next(4) == 0) Thread.Sleep(1);
            buffer.Combine(resultRows, d.Handle, output);
            d.Dispose();
            Check.Equal<BFloat16>(Workload.Flat(shape.Reference().Combine(tokens, received, results, shape.Hidden)[rank.Rank]), output, $"step {step}");
        }
    }

    private static async Task TwoBuffersOfAGroupAsync(RankContext rank)
    {
        Random random = rank.SharedRandom();
        Shape one = rank.Fit<float>(Shape.Draw(random, rank.Group.Size)), other = rank.Fit<BFloat16>(Shape.Draw(random, rank.Group.Size));
        using TestBuffer first = await rank.CreateAsync<float>(one);
        using TestBuffer second = await rank.CreateAsync<BFloat16>(other);
        for (int call = 0; call < 3; call++)
        {
            Exchange.Run<BFloat16>(rank, second, other, random);
            Exchange.Run<float>(rank, first, one, random);
        }
        ReferenceTokens<float>[] tokens = Workload.Draw<float>(random, one);
        using TestResult d = first.Dispatch(Workload.Flat(tokens[rank.Rank].X), Workload.Flat(tokens[rank.Rank].Choices));
        ArgumentException error = Assert.Throws<ArgumentException>(() => second.Combine(Array.Empty<BFloat16>(), d.Handle, Array.Empty<BFloat16>()));
        Assert.Contains("another buffer", error.Message, StringComparison.Ordinal);
        await rank.Group.BarrierAsync();
    }
}

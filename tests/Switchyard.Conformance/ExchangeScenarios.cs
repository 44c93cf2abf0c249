using System.Runtime.InteropServices;
using Switchyard.Reference;
using Xunit;

namespace Switchyard.Conformance;

/// <summary>Dispatch and combine against the reference, over random odd shapes.</summary>
internal static class ExchangeScenarios
{
    private const int ShapesARun = 6;
    private const int CallsAShape = 3;

    public static Scenario[] All =>
    [
        new("exchange-bfloat16", rank => RandomShapesAsync<BFloat16>(rank, Exchange.Run<BFloat16>)),
        new("exchange-half", rank => RandomShapesAsync<Half>(rank, Exchange.Run<Half>)),
        new("exchange-single", rank => RandomShapesAsync<float>(rank, Exchange.Run<float>)),
        new("exchange-scaled-rows", rank => RandomShapesAsync<BFloat16>(rank, Exchange.RunScaled<BFloat16>)),
        new("exchange-quantized-bfloat16", rank => RandomShapesAsync<BFloat16, Float8E4M3>(rank, Exchange.RunQuantized<BFloat16>)),
        new("exchange-quantized-half", rank => RandomShapesAsync<Half, Float8E4M3>(rank, Exchange.RunQuantized<Half>)),
        new("exchange-quantized-single", rank => RandomShapesAsync<float, Float8E4M3>(rank, Exchange.RunQuantized<float>)),
        new("wide-rows", WideRowsAsync),
        new("determinism", SameBitsWhateverTheTimingAsync),
        new("views", StridedAndWideArgumentsAsync),
        new("load", LoadOfTheExpertsAddsUpAsync),
        new("straggler", WaitsAreCountedForTheRankThatIsLateAsync),
    ];

    private static Task RandomShapesAsync<T>(RankContext rank, Action<RankContext, TestBuffer, Shape, Random> exchange)
        where T : unmanaged => RandomShapesAsync<T, T>(rank, exchange);

    /// <summary>Shapes whose rows can be moved as <typeparamref name="TSmallest"/> too.</summary>
    private static async Task RandomShapesAsync<T, TSmallest>(RankContext rank, Action<RankContext, TestBuffer, Shape, Random> exchange)
        where T : unmanaged
        where TSmallest : unmanaged
    {
        Random random = rank.SharedRandom();
        for (int i = 0; i < ShapesARun; i++)
        {
            Shape shape = rank.Fit<TSmallest>(Shape.Draw(random, rank.Group.Size));
            using TestBuffer buffer = await rank.CreateAsync<T>(shape);
            for (int call = 0; call < CallsAShape; call++) exchange(rank, buffer, shape, random);
            await rank.Group.BarrierAsync();
        }
    }

    /// <summary>Rows that a device moves, quantizes and sums in several pieces, the last one shorter.</summary>
    private static async Task WideRowsAsync(RankContext rank)
    {
        await WideRowsAsync<BFloat16>(rank, hidden: 9001);
        await WideRowsAsync<float>(rank, hidden: 5003);
    }

    private static async Task WideRowsAsync<T>(RankContext rank, int hidden)
        where T : unmanaged
    {
        Random random = rank.SharedRandom();
        foreach ((RowLayout layout, ScaleLayout scales) in new[] { (RowLayout.RankMajor, ScaleLayout.RowMajor), (RowLayout.ExpertMajor, ScaleLayout.ColumnMajor) })
        {
            Shape shape = rank.Fit<Float8E4M3>(new Shape(rank.Group.Size, 8, 2, hidden, 3, layout, 1, Routing.SomeNone) { ScaleLayout = scales });
            using TestBuffer buffer = await rank.CreateAsync<T>(shape);
            for (int call = 0; call < CallsAShape; call++)
            {
                Exchange.Run<T>(rank, buffer, shape, random);
                Exchange.RunQuantized<T>(rank, buffer, shape, random);
            }
            await rank.Group.BarrierAsync();
        }
    }

    /// <summary>100 runs of the same calls with every rank dawdling at random places give the same bits.</summary>
    private static async Task SameBitsWhateverTheTimingAsync(RankContext rank)
    {
        Shape shape = rank.Fit<BFloat16>(new Shape(rank.Group.Size, 13, 4, 33, 24, RowLayout.ExpertMajor, 4, Routing.SomeNone));
        ReferenceTokens<BFloat16>[] tokens = Workload.Draw<BFloat16>(rank.SharedRandom(), shape);
        ReferenceTokens<BFloat16> mine = tokens[rank.Rank];
        Random dawdle = rank.OwnRandom();
        using TestBuffer buffer = await rank.CreateAsync<BFloat16>(shape);
        BFloat16[]? first = null;
        for (int run = 0; run < 100; run++)
        {
            Dawdle(dawdle);
            using TestResult d = buffer.Dispatch(Workload.Flat(mine.X), Workload.Flat(mine.Choices), Workload.Flat(mine.Weights), shape.Options);
            Dawdle(dawdle);
            BFloat16[] output = Workload.Poisoned<BFloat16>(mine.X.Length * shape.Hidden);
            buffer.Combine(d.Rows, d.Handle, output);
            first ??= output;
            Check.Equal<BFloat16>(first, output, $"run {run}");
        }
    }

    private static void Dawdle(Random random)
    {
        int what = random.Next(10);
        if (what == 0) Thread.Sleep(random.Next(3));
        else if (what < 4) Thread.SpinWait(random.Next(20000));
        else if (what < 6) Thread.Yield();
    }

    /// <summary>The load counts every dispatch but cached ones, on experts placed anywhere.</summary>
    private static async Task LoadOfTheExpertsAddsUpAsync(RankContext rank)
    {
        Random random = rank.SharedRandom();
        var shape = new Shape(rank.Group.Size, 11, 3, 8, 7, RowLayout.ExpertMajor, 4, Routing.SomeNone)
        {
            ExpertRanks = [.. Enumerable.Range(0, 11).Select(_ => random.Next(rank.Group.Size))],
        };
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        Assert.Equal(shape.Reference().ExpertsOf(rank.Rank), buffer.LocalExperts);
        long[] load = new long[buffer.LocalExperts.Length];
        for (int call = 0; call < 5; call++)
        {
            ReferenceTokens<float>[] tokens = Workload.Draw<float>(random, shape);
            ReferenceTokens<float> mine = tokens[rank.Rank];
            for (int local = 0; local < load.Length; local++)
                load[local] += tokens.Sum(each => each.Choices.Sum(choices => choices.Count(expert => expert == buffer.LocalExperts[local])));
            using TestResult d = buffer.Dispatch(Workload.Flat(mine.X), Workload.Flat(mine.Choices), default, shape.Options);
            buffer.Dispatch(Workload.Flat(mine.X), d.Handle).Dispose();
            Assert.Equal(load, buffer.CumulativeTokensPerExpert);
        }
        await rank.Group.BarrierAsync();
    }

    /// <summary>The others wait for a rank that is late, and for nobody else as long.</summary>
    private static async Task WaitsAreCountedForTheRankThatIsLateAsync(RankContext rank)
    {
        int late = rank.Group.Size - 1;
        var shape = new Shape(rank.Group.Size, 4, 1, 8, 2, RowLayout.RankMajor, 1, Routing.Uniform);
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        Assert.Equal(TimeSpan.Zero, buffer.WaitedFor(rank.Rank));
        for (int call = 0; call < 4; call++)
        {
            // Longer than a crowded machine keeps a rank from running.
            if (rank.Rank == late) await Task.Delay(200);
            buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>()).Dispose();
        }
        if (rank.Rank != late)
        {
            Assert.InRange(buffer.WaitedFor(late), TimeSpan.FromMilliseconds(500), TimeSpan.FromSeconds(30));
            for (int other = 0; other < late; other++) Assert.True(buffer.WaitedFor(other) < buffer.WaitedFor(late));
        }
        await rank.Group.BarrierAsync();
    }

    /// <summary>Rows a stride apart, and pointers instead of spans.</summary>
    private static async Task StridedAndWideArgumentsAsync(RankContext rank)
    {
        Shape shape = rank.Fit<float>(new Shape(rank.Group.Size, 8, 2, 19, 9, RowLayout.RankMajor, 1, Routing.Uniform));
        Random random = rank.SharedRandom();
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        ReferenceTokens<float>[] tokens = Workload.Draw<float>(random, shape);
        ReferenceTokens<float> mine = tokens[rank.Rank];
        int stride = shape.Hidden + 4;
        float[] x = Spread(mine.X, stride), output = Workload.Poisoned<float>(Math.Max(1, mine.X.Length * stride));
        using var pinnedX = new Pinned(x);
        using var pinnedOutput = new Pinned(output);

        using TestResult d = buffer.Dispatch(
            ReadOnlyTensorView.FromPointer(pinnedX.Address, mine.X.Length, shape.Hidden, stride, ElementType.Single), Workload.Flat(mine.Choices));
        List<ReferenceRow<float>>[] received = shape.Reference().Dispatch([.. tokens.Select(each => each with { Weights = [.. each.Weights.Select(w => w.Select(_ => 1f).ToArray())] })]);
        Check.Received(received[rank.Rank], d, shape, hasMetadata: true);
        float[] results = Spread([.. received[rank.Rank].Select(row => row.Elements!)], stride);
        using var pinnedResults = new Pinned(results);
        buffer.Combine(
            ReadOnlyTensorView.FromPointer(pinnedResults.Address, d.RowCount, shape.Hidden, stride, ElementType.Single),
            d.Handle,
            TensorView.FromPointer(pinnedOutput.Address, mine.X.Length, shape.Hidden, stride, ElementType.Single));

        float[][][] asResults = [.. received.Select(rows => rows.Select(row => row.Elements!).ToArray())];
        float[][] sums = shape.Reference().Combine(tokens, received, asResults, shape.Hidden)[rank.Rank];
        for (int token = 0; token < sums.Length; token++)
        {
            Check.Equal<float>(sums[token], output.AsSpan(token * stride, shape.Hidden), $"token {token}");
            Check.Equal<float>(Workload.Poisoned<float>(stride - shape.Hidden), output.AsSpan((token * stride) + shape.Hidden, stride - shape.Hidden), "gap between rows");
        }
        await rank.Group.BarrierAsync();
    }

    private static float[] Spread(float[][] rows, int stride)
    {
        float[] spread = Workload.Poisoned<float>(Math.Max(1, rows.Length * stride));
        for (int row = 0; row < rows.Length; row++) rows[row].CopyTo(spread, row * stride);
        return spread;
    }

    private sealed class Pinned(float[] array) : IDisposable
    {
        private GCHandle _handle = GCHandle.Alloc(array, GCHandleType.Pinned);

        public nint Address => _handle.AddrOfPinnedObject();

        public void Dispose() => _handle.Free();
    }
}

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
        new("exchange-bfloat16", RandomShapesAsync<BFloat16>),
        new("exchange-single", RandomShapesAsync<float>),
        new("determinism", SameBitsWhateverTheTimingAsync),
        new("views", StridedAndWideArgumentsAsync),
    ];

    /// <summary>One exchange with every way of handing over results.</summary>
    public static void Exchange<T>(RankContext rank, ExpertBuffer buffer, Shape shape, Random random)
        where T : unmanaged
    {
        ReferenceTokens<T>[] tokens = Workload.Draw<T>(random, shape);
        ReferenceExchange reference = shape.Reference();
        List<ReferenceRow<T>>[] received = reference.Dispatch(tokens);
        T[][][] results = [.. received.Select(rows => Workload.DrawRows<T>(random, rows.Count, shape.Hidden))];
        float[][][] weights = [.. received.Select(rows => rows.Select(row => row.Weights.Select(w => w * random.NextSingle()).ToArray()).ToArray())];
        int memory = random.Next(3);
        bool withWeights = random.Next(2) == 0;
        ReferenceTokens<T> mine = tokens[rank.Rank];
        int[] choices = Workload.Flat(mine.Choices);

        ReadOnlyTensorView x = ReadOnlyTensorView.FromSpan<T>(Workload.Flat(mine.X));
        using Dispatched d = random.Next(2) == 0
            ? buffer.Dispatch(x, choices, Workload.Flat(mine.Weights), shape.Options)
            : buffer.Dispatch(x, choices.Select(choice => (long)choice).ToArray(), Workload.Flat(mine.Weights), shape.Options);
        Check.Received(received[rank.Rank], d, hasMetadata: true);

        T[] output = Workload.Poisoned<T>(mine.X.Length * shape.Hidden);
        float[] reduced = Workload.Poisoned<float>(mine.X.Length * shape.TopK);
        ReadOnlyTensorView resultRows = PlaceResults(d, Workload.Flat(results[rank.Rank]), memory);
        if (withWeights) buffer.Combine(resultRows, d.Handle, TensorView.FromSpan<T>(output), Workload.Flat(weights[rank.Rank]), reduced);
        else buffer.Combine(resultRows, d.Handle, TensorView.FromSpan<T>(output));

        T[][] sums = reference.Combine(tokens, received, results, shape.Hidden)[rank.Rank];
        Check.Equal<T>(Workload.Flat(sums), output, "combined");
        if (withWeights) Check.Equal<float>(Workload.Flat(reference.CombineWeights(tokens, received, weights)[rank.Rank]), reduced, "reduced weights");
        if (random.Next(2) == 0) d.Handle.Dispose();
    }

    private static ReadOnlyTensorView PlaceResults<T>(in Dispatched d, T[] results, int memory)
        where T : unmanaged
    {
        if (memory == 0) return ReadOnlyTensorView.FromSpan<T>(results);
        TensorView place = memory == 1 ? d.Rows : d.ResultRows;
        results.CopyTo(place.AsSpan<T>());
        return place;
    }

    private static async Task RandomShapesAsync<T>(RankContext rank)
        where T : unmanaged
    {
        Random random = rank.SharedRandom();
        for (int i = 0; i < ShapesARun; i++)
        {
            Shape shape = Shape.Draw(random, rank.Group.Size);
            using ExpertBuffer buffer = await rank.CreateAsync<T>(shape);
            for (int call = 0; call < CallsAShape; call++) Exchange<T>(rank, buffer, shape, random);
            await rank.Group.BarrierAsync();
        }
    }

    /// <summary>100 runs of the same calls with every rank dawdling at random places give the same bits.</summary>
    private static async Task SameBitsWhateverTheTimingAsync(RankContext rank)
    {
        var shape = new Shape(rank.Group.Size, 13, 4, 33, 24, RowLayout.ExpertMajor, 4, Routing.SomeNone);
        ReferenceTokens<BFloat16>[] tokens = Workload.Draw<BFloat16>(rank.SharedRandom(), shape);
        ReferenceTokens<BFloat16> mine = tokens[rank.Rank];
        Random dawdle = rank.OwnRandom();
        using ExpertBuffer buffer = await rank.CreateAsync<BFloat16>(shape);
        BFloat16[]? first = null;
        for (int run = 0; run < 100; run++)
        {
            Dawdle(dawdle);
            using Dispatched d = buffer.Dispatch(Workload.Flat(mine.X), Workload.Flat(mine.Choices), Workload.Flat(mine.Weights), shape.Options);
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

    /// <summary>Rows a stride apart, and pointers instead of spans.</summary>
    private static async Task StridedAndWideArgumentsAsync(RankContext rank)
    {
        var shape = new Shape(rank.Group.Size, 8, 2, 19, 9, RowLayout.RankMajor, 1, Routing.Uniform);
        Random random = rank.SharedRandom();
        using ExpertBuffer buffer = await rank.CreateAsync<float>(shape);
        ReferenceTokens<float>[] tokens = Workload.Draw<float>(random, shape);
        ReferenceTokens<float> mine = tokens[rank.Rank];
        const int Stride = 23;
        float[] x = Spread(mine.X, Stride), output = Workload.Poisoned<float>(Math.Max(1, mine.X.Length * Stride));
        using var pinnedX = new Pinned(x);
        using var pinnedOutput = new Pinned(output);

        using Dispatched d = buffer.Dispatch(
            ReadOnlyTensorView.FromPointer(pinnedX.Address, mine.X.Length, shape.Hidden, Stride, ElementType.Single), Workload.Flat(mine.Choices));
        List<ReferenceRow<float>>[] received = shape.Reference().Dispatch([.. tokens.Select(each => each with { Weights = [.. each.Weights.Select(w => w.Select(_ => 1f).ToArray())] })]);
        Check.Received(received[rank.Rank], d, hasMetadata: true);
        float[] results = Spread([.. received[rank.Rank].Select(row => row.Elements!)], Stride);
        using var pinnedResults = new Pinned(results);
        buffer.Combine(
            ReadOnlyTensorView.FromPointer(pinnedResults.Address, d.RowCount, shape.Hidden, Stride, ElementType.Single),
            d.Handle,
            TensorView.FromPointer(pinnedOutput.Address, mine.X.Length, shape.Hidden, Stride, ElementType.Single));

        float[][][] asResults = [.. received.Select(rows => rows.Select(row => row.Elements!).ToArray())];
        float[][] sums = shape.Reference().Combine(tokens, received, asResults, shape.Hidden)[rank.Rank];
        for (int token = 0; token < sums.Length; token++)
        {
            Check.Equal<float>(sums[token], output.AsSpan(token * Stride, shape.Hidden), $"token {token}");
            Check.Equal<float>(Workload.Poisoned<float>(Stride - shape.Hidden), output.AsSpan((token * Stride) + shape.Hidden, Stride - shape.Hidden), "gap between rows");
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

using Switchyard.Reference;
using Xunit;

namespace Switchyard.Conformance;

/// <summary>One dispatch and combine of random tokens with randomly drawn arguments, held against the reference.</summary>
internal static class Exchange
{
    /// <summary>Dispatches rows of the buffer's element.</summary>
    public static void Run<T>(RankContext rank, TestBuffer buffer, Shape shape, Random random)
        where T : unmanaged
    {
        ReferenceTokens<T>[] tokens = Workload.Draw<T>(random, shape);
        ReferenceTokens<T> mine = tokens[rank.Rank];
        List<ReferenceRow<T>>[] received = shape.Reference().Dispatch(tokens);
        ReadOnlyTensorView x = ReadOnlyTensorView.FromSpan<T>(Workload.Flat(mine.X));
        int[] choices = Workload.Flat(mine.Choices);
        using TestResult d = random.Next(2) == 0
            ? buffer.Dispatch(x, choices, Workload.Flat(mine.Weights), shape.Options)
            : buffer.Dispatch(x, choices.Select(choice => (long)choice).ToArray(), Workload.Flat(mine.Weights), shape.Options);
        Check.Received(received[rank.Rank], d, shape, hasMetadata: true);
        Combine<T, T>(rank, buffer, shape, random, tokens, received, d, d.Handle);
        Repeat(rank, buffer, shape, random, tokens, d.Handle);
    }

    /// <summary>Dispatches packed rows of any length with scales of any kind, and combines in the buffer's element.</summary>
    public static void RunScaled<T>(RankContext rank, TestBuffer buffer, Shape shape, Random random)
        where T : unmanaged
    {
        ScaledFormat format = ScaledFormat.Draw(random, rank.Granularity);
        ReferenceTokens<byte>[] tokens = Workload.Draw<byte>(random, shape, format.RowBytes + format.ScaleBytes);
        ReferenceTokens<byte> mine = tokens[rank.Rank];
        List<ReferenceRow<byte>>[] received = shape.Reference().Dispatch(tokens);
        byte[] rows = format.RowsOf(mine.X), scales = format.ScalesOf(mine.X);
        using TestResult d = buffer.Dispatch(format.Scaled(rows, scales), Workload.Flat(mine.Choices), Workload.Flat(mine.Weights), shape.Options);
        Check.ReceivedScaled(received[rank.Rank], d, shape, format, hasMetadata: true);
        Combine<byte, T>(rank, buffer, shape, random, tokens, received, d, d.Handle);

        ReferenceTokens<byte>[] others = [.. tokens.Select(each => each with { X = Workload.DrawRows<byte>(random, each.X.Length, format.RowBytes + format.ScaleBytes) })];
        rows = format.RowsOf(others[rank.Rank].X);
        scales = format.ScalesOf(others[rank.Rank].X);
        using TestResult again = buffer.Dispatch(format.Scaled(rows, scales), d.Handle);
        Check.ReceivedScaled(shape.Reference().Dispatch(others)[rank.Rank], again, shape, format, hasMetadata: false);
    }

    /// <summary>Dispatches rows that are quantized on the way or not, and again by the handle, whatever way the first ones went.</summary>
    public static void RunQuantized<T>(RankContext rank, TestBuffer buffer, Shape shape, Random random)
        where T : unmanaged
    {
        ReferenceTokens<T>[] tokens = Workload.Draw<T>(random, shape);
        foreach (T[] row in tokens.SelectMany(each => each.X)) Workload.Spoil(random, row);
        ReferenceTokens<T>[] others = [.. tokens.Select(each => each with { X = Workload.DrawRows<T>(random, each.X.Length, shape.Hidden) })];
        var first = (Float8Scaling)random.Next(4);
        var second = (Float8Scaling)random.Next(4);
        ReferenceTokens<T> mine = tokens[rank.Rank];
        using TestResult d = buffer.Dispatch(
            ReadOnlyTensorView.FromSpan<T>(Workload.Flat(mine.X)), Workload.Flat(mine.Choices), Workload.Flat(mine.Weights), shape.Options with { Quantize = first });
        ReceivedQuantized(tokens, first, d, shape, rank.Rank, hasMetadata: true);
        Combine<T, T>(rank, buffer, shape, random, tokens, shape.Reference().Dispatch(tokens), d, d.Handle);

        using TestResult again = buffer.Dispatch(ReadOnlyTensorView.FromSpan<T>(Workload.Flat(others[rank.Rank].X)), d.Handle, second);
        ReceivedQuantized(others, second, again, shape, rank.Rank, hasMetadata: false);
        Combine<T, T>(rank, buffer, shape, random, others, shape.Reference().Dispatch(others), again, d.Handle);
    }

    /// <summary>Holds what a rank received against the reference for rows that were quantized before.</summary>
    private static void ReceivedQuantized<T>(ReferenceTokens<T>[] tokens, Float8Scaling scaling, TestResult d, Shape shape, int rank, bool hasMetadata)
        where T : unmanaged
    {
        if (scaling == Float8Scaling.None)
        {
            Check.Received(shape.Reference().Dispatch(tokens)[rank], d, shape, hasMetadata);
            return;
        }
        ReferenceTokens<byte>[] quantized =
            [.. tokens.Select(each => new ReferenceTokens<byte>([.. each.X.Select(row => PlainQuantizer.Quantize(row, scaling))], each.Choices, each.Weights))];
        ScaledFormat format = PlainQuantizer.FormatOf(shape.Hidden, scaling);
        Assert.Equal((format.Element, shape.Hidden, format.ScaleElement), (d.Rows.Element, (int)d.Rows.RowLength, d.Scales.Element));
        Check.ReceivedScaled(shape.Reference().Dispatch(quantized)[rank], d, shape, format, hasMetadata);
    }

    /// <summary>Now and then a cached dispatch of other rows, and the combine that goes with it.</summary>
    private static void Repeat<T>(RankContext rank, TestBuffer buffer, Shape shape, Random random, ReferenceTokens<T>[] tokens, DispatchHandle handle)
        where T : unmanaged
    {
        if (random.Next(2) == 0) return;
        ReferenceTokens<T>[] others = [.. tokens.Select(each => each with { X = Workload.DrawRows<T>(random, each.X.Length, shape.Hidden) })];
        List<ReferenceRow<T>>[] received = shape.Reference().Dispatch(others);
        using TestResult d = buffer.Dispatch(ReadOnlyTensorView.FromSpan<T>(Workload.Flat(others[rank.Rank].X)), handle);
        Check.Received(received[rank.Rank], d, shape, hasMetadata: false);
        Combine<T, T>(rank, buffer, shape, random, others, received, d, handle);
    }

    /// <summary>Combines random results from a randomly chosen memory, with and without biases and weights of either kind.</summary>
    private static void Combine<TRow, T>(
        RankContext rank,
        TestBuffer buffer,
        Shape shape,
        Random random,
        ReferenceTokens<TRow>[] tokens,
        List<ReferenceRow<TRow>>[] received,
        TestResult d,
        DispatchHandle handle)
        where TRow : unmanaged
        where T : unmanaged
    {
        ReferenceExchange reference = shape.Reference();
        T[][][] results = [.. received.Select(rows => Workload.DrawRows<T>(random, rows.Count, shape.Hidden))];
        if (random.Next(3) == 0) foreach (T[] row in results.SelectMany(each => each)) Workload.Spoil(random, row);
        int columns = shape.Layout == RowLayout.RankMajor ? shape.TopK : 1;
        float[][][] rowWeights = [.. received.Select(rows => Workload.DrawWeights(random, rows.Count, columns))];
        int biasCount = random.Next(3);
        T[][][][] biases = [.. tokens.Select(each => Enumerable.Range(0, biasCount).Select(_ => Workload.DrawRows<T>(random, each.X.Length, shape.Hidden)).ToArray())];
        bool bringsWeights = random.Next(2) == 0, multiplies = random.Next(2) == 0 && shape.Layout == RowLayout.ExpertMajor && !shape.PreReduce;
        float[][][] choiceWeights = [.. tokens.Select(each => Workload.DrawWeights(random, each.X.Length, shape.TopK))];

        int mine = tokens[rank.Rank].X.Length;
        T[] output = Workload.Poisoned<T>(mine * shape.Hidden);
        float[] reduced = Workload.Poisoned<float>(mine * shape.TopK);
        T[][][] bias = biases[rank.Rank];
        buffer.Combine(
            Place<T>(d, Workload.Flat(results[rank.Rank]), shape.Hidden, random.Next(3)),
            handle,
            TensorView.FromSpan<T>(output),
            new CombineOptions
            {
                Bias = biasCount > 0 ? ReadOnlyTensorView.FromSpan<T>(Workload.Flat(bias[0])) : default,
                SecondBias = biasCount > 1 ? ReadOnlyTensorView.FromSpan<T>(Workload.Flat(bias[1])) : default,
                ChoiceWeights = multiplies ? Workload.Flat(choiceWeights[rank.Rank]) : null,
                RowWeights = bringsWeights ? Workload.Lengthened(Workload.Flat(rowWeights[rank.Rank]), d.RowCount * columns) : null,
                ReducedWeights = bringsWeights ? reduced : null,
            });

        T[][] sums = reference.Combine(tokens, received, results, shape.Hidden, biases, multiplies ? choiceWeights : null)[rank.Rank];
        Check.Sums<T>(Workload.Flat(sums), output, "combined");
        if (bringsWeights) Check.Equal<float>(Workload.Flat(reference.CombineWeights(tokens, received, rowWeights)[rank.Rank]), reduced, "reduced weights");
    }

    /// <summary>Puts results where a caller may have them: in memory of its own, in the received rows, in the room for results.</summary>
    private static ReadOnlyTensorView Place<T>(TestResult d, T[] results, int hidden, int memory)
        where T : unmanaged
    {
        // Received rows of another format are no place for results.
        if (memory == 1 && d.Rows.Element == ElementTypes.Of<T>() && d.Rows.RowLength == hidden && d.Scales.IsAbsent)
        {
            TensorView rows = d.Rows;
            results.CopyTo(rows.AsSpan<T>());
            return rows;
        }
        if (memory == 2)
        {
            TensorView rows = d.ResultRows;
            results.CopyTo(rows.AsSpan<T>());
            return rows;
        }
        return ReadOnlyTensorView.FromSpan<T>(Workload.Lengthened(results, d.RowCount * hidden));
    }
}

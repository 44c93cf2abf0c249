using System.Diagnostics;
using Xunit;

namespace Switchyard.Conformance;

/// <summary>Disagreement, overflow, lateness and leaving: every rank gets the same typed error, and none hangs.</summary>
internal static class FaultScenarios
{
    private static readonly TimeSpan _shortDeadline = TimeSpan.FromSeconds(1);

    public static Scenario[] All =>
    [
        new("overflow", OverflowReachesAllAndIsSurvivedAsync),
        new("combine-without-room", NoRoomToCopyReachesAllAsync),
        new("fixed-shape-without-room", NoRoomForAFixedShapeReachesAllAsync),
        new("mismatch-operation", rank => MismatchAsync(rank, Odd.Operation)),
        new("mismatch-layout", rank => MismatchAsync(rank, Odd.Layout)),
        new("mismatch-alignment", rank => MismatchAsync(rank, Odd.Alignment)),
        new("mismatch-handle", rank => MismatchAsync(rank, Odd.Handle)),
        new("mismatch-weights", rank => MismatchAsync(rank, Odd.Weights)),
        new("mismatch-fixed-shape", rank => MismatchAsync(rank, Odd.FixedShape)),
        new("mismatch-pre-reduction", rank => MismatchAsync(rank, Odd.PreReduction)),
        new("mismatch-row-length", rank => MismatchAsync(rank, Odd.RowLength)),
        new("mismatch-scales", rank => MismatchAsync(rank, Odd.Scales)),
        new("mismatch-scale-layout", rank => MismatchAsync(rank, Odd.ScaleLayout)),
        new("mismatch-quantization", rank => MismatchAsync(rank, Odd.Quantization)),
        new("mismatch-quantization-again", rank => MismatchAsync(rank, Odd.QuantizationAgain)),
        new("mismatch-options", DifferentOptionsAreFoundAtCreationAsync),
        new("late", LateRankIsNamedByAllAsync),
        new("late-to-create", LateCreationIsNamedAsync),
        new("closed", RankThatDisposedItsBufferIsNamedAsync),
        new("retry", ArgumentErrorMayBeRepeatedAsync, OnDevices: false),
        new("rebuild", ThoseWhoRemainGoOnAsync),
        new("evict", ARankThatIsPutOutIsToldAsync),
    ];

    private enum Odd
    {
        Operation,
        Layout,
        Alignment,
        Handle,
        Weights,
        FixedShape,
        PreReduction,
        RowLength,
        Scales,
        ScaleLayout,
        Quantization,
        QuantizationAgain,
    }

    private static Shape Small(RankContext rank) => new(rank.Group.Size, 4, 2, 8, 6, RowLayout.ExpertMajor, 2, Routing.Uniform);

    /// <summary>The last rank leaves; the others find out in a call, and exchange in a group and a buffer made anew. So on down to one.</summary>
    private static async Task ThoseWhoRemainGoOnAsync(RankContext rank)
    {
        Random random = rank.SharedRandom();
        ExpertGroup group = rank.Group;
        while (true)
        {
            RankContext now = rank with { Group = group };
            Shape shape = rank.Fit<BFloat16>(Shape.Draw(random, group.Size));
            using TestBuffer buffer = await now.CreateAsync<BFloat16>(shape);
            Exchange.Run<BFloat16>(now, buffer, shape, random);
            await group.BarrierAsync();
            if (group.Rank == group.Size - 1)
            {
                group.Dispose();
                return;
            }
            var step = new Random(random.Next());
            PeerLostException lost = Assert.Throws<PeerLostException>(() => Exchange.Run<BFloat16>(now, buffer, shape, step));
            Assert.Equal((group.Size - 1, Recovery.Rebuild), (lost.Peer.Rank, lost.Recovery));
            ExpertGroup rebuilt = await group.RebuildAsync();
            Assert.Equal((group.Rank, group.Size - 1), (rebuilt.Rank, rebuilt.Size));
            Assert.Throws<InvalidOperationException>(() => Exchange.Run<BFloat16>(now, buffer, shape, step));
            group.Dispose();
            group = rebuilt;
        }
    }

    /// <summary>Rank 0 stays away from a call until its peers have gone on without it.</summary>
    private static async Task ARankThatIsPutOutIsToldAsync(RankContext rank)
    {
        if (rank.Group.Size == 1) return;
        Shape shape = Small(rank);
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        buffer.Deadline = _shortDeadline;
        int[] choices = [.. Enumerable.Range(0, 6).SelectMany(_ => new[] { 0, 3 })];
        float[] x = new float[48];
        if (rank.Rank == 0)
        {
            FencedException? fenced = null;
            while (fenced is null)
            {
                await Task.Delay(20);
                fenced = Attempt<FencedException>(() => ThrowIfOver(rank.Group));
            }
            Assert.Throws<FencedException>(() => buffer.Dispatch(x, choices, default, shape.Options));
            await Assert.ThrowsAsync<FencedException>(() => rank.Group.BarrierAsync());
            await Assert.ThrowsAsync<FencedException>(() => rank.Group.RebuildAsync());
            return;
        }
        PeerTimeoutException late = Assert.Throws<PeerTimeoutException>(() => buffer.Dispatch(x, choices, default, shape.Options));
        Assert.Equal(0, late.Peer.Rank);
        ExpertGroup rebuilt = await rank.Group.RebuildAsync([0]);
        RankContext after = rank with { Group = rebuilt };
        Shape drawn = rank.Fit<float>(Shape.Draw(after.SharedRandom(), rebuilt.Size));
        using TestBuffer next = await after.CreateAsync<float>(drawn);
        Exchange.Run<float>(after, next, drawn, after.SharedRandom());
        await rebuilt.BarrierAsync();
        rebuilt.Dispose();
    }

    private static void ThrowIfOver(ExpertGroup group) => group.Channel.ThrowIfOver(default);

    private static async Task OverflowReachesAllAndIsSurvivedAsync(RankContext rank)
    {
        Shape shape = Small(rank) with { Alignment = 1 };
        int ranks = shape.Ranks;
        using TestBuffer buffer = await rank.CreateAsync<float>(shape, capacity: 5);
        int[] toLast = [.. Enumerable.Range(0, 6).SelectMany(_ => new[] { 3, -1 })];
        CapacityException error = Assert.Throws<CapacityException>(() => buffer.Dispatch(new float[6 * 8], toLast, default, shape.Options));
        Assert.Equal((ranks - 1, 6L * ranks, 5L, "rows"), (error.Rank, error.Needed, error.Available, error.Unit));
        Assert.Equal(Recovery.CallAgain, error.Recovery);
        Assert.Contains($"{6 * ranks} rows", error.Message, StringComparison.Ordinal);

        bool sends = rank.Rank == 0;
        using TestResult d = buffer.Dispatch(new float[sends ? 8 : 0], sends ? [3, -1] : Array.Empty<int>(), default, shape.Options);
        Assert.Equal(rank.Rank == ranks - 1 ? 1 : 0, d.RowCount);
    }

    private static async Task NoRoomToCopyReachesAllAsync(RankContext rank)
    {
        Shape shape = Small(rank) with { Alignment = 1 };
        shape = shape with { Hidden = 2048 };
        using TestBuffer buffer = await rank.CreateAsync<float>(shape, budget: 20 * rank.RegionBytes<float>(shape, 6));
        int rows = 6 * shape.Ranks, owner = shape.Reference().RankOf(0);
        int[] toFirst = [.. Enumerable.Range(0, 6).SelectMany(_ => new[] { 0, -1 })];
        var held = new List<TestResult>();
        CapacityException? error = null;
        for (int i = 0; i < 100 && error is null; i++)
        {
            TestResult? d = null;
            error = Attempt<CapacityException>(() => d = buffer.Dispatch(new float[6 * 2048], toFirst, default, shape.Options));
            if (error is not null) break;
            held.Add(d!);
            float[] output = new float[6 * 2048];
            error = Attempt<CapacityException>(() => buffer.Combine(new float[d!.RowCount * 2048], d.Handle, output));
        }
        Assert.NotNull(error);
        Assert.Equal(owner, error.Rank);
        Assert.True(error.Needed > error.Available);
        held.ForEach(each => each.Dispose());
        using TestResult after = buffer.Dispatch(new float[6 * 2048], toFirst, default, shape.Options);
        Assert.Equal(rank.Rank == owner ? rows : 0, after.RowCount);
    }

    /// <summary>A result of fixed shape takes all of the receive capacity: with one alive, a pool for one and a half has no room for the next.</summary>
    private static async Task NoRoomForAFixedShapeReachesAllAsync(RankContext rank)
    {
        Shape shape = Small(rank) with { FixedShape = true };
        using TestBuffer buffer = await rank.CreateAsync<float>(shape, budget: rank.RegionBytes<float>(shape, RankContext.WorstRows(shape)) * 3 / 2);
        var held = new List<TestResult>();
        CapacityException? error = null;
        while (error is null) error = Attempt<CapacityException>(() => held.Add(buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>(), default, shape.Options)));
        Assert.Equal("bytes", error.Unit);
        Assert.True(error.Needed > error.Available);
        Assert.Contains("MemoryBudget", error.Message, StringComparison.Ordinal);
        Assert.NotEmpty(held);
        held.ForEach(each => each.Dispose());
        buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>(), default, shape.Options).Dispose();
        await rank.Group.BarrierAsync();
    }

    private static async Task MismatchAsync(RankContext rank, Odd odd)
    {
        if (rank.Group.Size == 1) return;
        Shape shape = Small(rank) with { Hidden = 16 };
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        buffer.Deadline = TimeSpan.FromSeconds(20);
        bool isOdd = rank.Rank == rank.Group.Size - 1;
        int[] choices = [.. Enumerable.Range(0, 6).SelectMany(_ => new[] { 0, 3 })];
        float[] x = new float[96], output = new float[96];
        TestResult first = buffer.Dispatch(x, choices, default, shape.Options);
        TestResult second = buffer.Dispatch(x, choices, default, shape.Options);
        var clock = Stopwatch.StartNew();
        CallMismatchException? error = Attempt<CallMismatchException>(() =>
        {
            switch (odd)
            {
                case Odd.Operation when isOdd:
                    buffer.Dispatch(x, choices, default, shape.Options);
                    break;
                case Odd.Layout:
                    buffer.Dispatch(x, choices, default, isOdd ? new() { Layout = RowLayout.RankMajor } : shape.Options);
                    break;
                case Odd.Alignment:
                    buffer.Dispatch(x, choices, default, shape.Options with { ExpertAlignment = isOdd ? 4 : 2 });
                    break;
                case Odd.FixedShape:
                    buffer.Dispatch(x, choices, default, shape.Options with { FixedShape = isOdd });
                    break;
                case Odd.PreReduction:
                    buffer.Dispatch(x, choices, default, shape.Options with { PreReduce = isOdd });
                    break;
                case Odd.RowLength:
                    buffer.Dispatch(new ScaledRows(new byte[isOdd ? 192 : 96]), choices, default, shape.Options);
                    break;
                case Odd.Scales:
                    buffer.Dispatch(new ScaledRows(new byte[96], isOdd ? new float[12] : new float[6]), choices, default, shape.Options);
                    break;
                case Odd.ScaleLayout:
                    ScaleLayout layout = isOdd ? ScaleLayout.ColumnMajor : ScaleLayout.RowMajor;
                    buffer.Dispatch(new ScaledRows(new byte[96], new float[12]), choices, default, shape.Options with { ScaleLayout = layout });
                    break;
                case Odd.Quantization:
                    buffer.Dispatch(x, choices, default, shape.Options with { Quantize = isOdd ? Float8Scaling.Single : Float8Scaling.PowerOfTwo });
                    break;
                case Odd.QuantizationAgain:
                    buffer.Dispatch(x, first.Handle, isOdd ? Float8Scaling.Packed : Float8Scaling.None);
                    break;
                case Odd.Handle:
                    buffer.Combine((isOdd ? first : second).Rows, (isOdd ? first : second).Handle, output);
                    break;
                case Odd.Weights when isOdd:
                    buffer.Combine(first.Rows, first.Handle, output, new() { RowWeights = ReadOnlyTensorView.FromSpan(first.TopkWeights), ReducedWeights = new float[12] });
                    break;
                default:
                    buffer.Combine(first.Rows, first.Handle, output);
                    break;
            }
        });
        Assert.NotNull(error);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(5), $"took {clock.Elapsed}");
        Assert.Contains(rank.Group.Size - 1, new[] { error.Rank, error.Other });
        if (odd is Odd.Quantization or Odd.QuantizationAgain) Assert.Contains("Quantize is", error.Difference, StringComparison.OrdinalIgnoreCase);
        Assert.Throws<CallMismatchException>(() => buffer.Combine(first.Rows, first.Handle, output));

        // Several ranks may find it at once; all believe the same one.
        byte[][] named = await rank.Group.AllGatherAsync(new[] { (byte)error.Rank, (byte)error.Other });
        Assert.All(named, each => Assert.Equal(named[0], each));
    }

    private static async Task DifferentOptionsAreFoundAtCreationAsync(RankContext rank)
    {
        if (rank.Group.Size == 1) return;
        Shape shape = Small(rank);
        bool isOdd = rank.Rank == rank.Group.Size - 1;
        CallMismatchException error = await Assert.ThrowsAsync<CallMismatchException>(
            () => rank.CreateAsync<float>(isOdd ? shape with { Hidden = 12 } : shape));
        Assert.Contains("Hidden=8", error.Message, StringComparison.Ordinal);
        Assert.Contains("Hidden=12", error.Message, StringComparison.Ordinal);
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        Exchange.Run<float>(rank, buffer, shape, rank.SharedRandom());
        await rank.Group.BarrierAsync();
    }

    private static async Task LateRankIsNamedByAllAsync(RankContext rank)
    {
        if (rank.Group.Size == 1) return;
        Shape shape = Small(rank);
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        int late = rank.Group.Size - 1;
        buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>()).Dispose();
        await rank.Group.BarrierAsync();
        if (rank.Rank == late) await Task.Delay(3 * _shortDeadline);
        else buffer.Deadline = _shortDeadline;
        PeerTimeoutException? error = Attempt<PeerTimeoutException>(() => buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>()));
        Assert.NotNull(error);
        Assert.Equal(late, error.Peer.Rank);
        Assert.NotEqual(late, error.Reporter);
        Assert.Equal((2L, 1L), (error.Expected, error.Seen));
        Assert.Equal(CallPhase.AwaitAnnouncement, error.Site.Phase);
        Assert.Throws<PeerTimeoutException>(() => buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>()));
        await rank.Group.BarrierAsync();
    }

    private static async Task LateCreationIsNamedAsync(RankContext rank)
    {
        if (rank.Group.Size == 1) return;
        await rank.Group.BarrierAsync();
        if (rank.Rank == 1)
        {
            await Task.Delay(3 * _shortDeadline);
            return;
        }
        rank.Group.Deadline = _shortDeadline;
        PeerTimeoutException error = await Assert.ThrowsAsync<PeerTimeoutException>(() => rank.CreateAsync<float>(Small(rank)));
        Assert.Equal(1, error.Peer.Rank);
        Assert.Contains("ExpertGroup.Deadline", error.Message, StringComparison.Ordinal);
    }

    private static async Task RankThatDisposedItsBufferIsNamedAsync(RankContext rank)
    {
        if (rank.Group.Size == 1) return;
        Shape shape = Small(rank);
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        Exchange.Run<float>(rank, buffer, shape, rank.SharedRandom());
        if (rank.Rank == 0)
        {
            buffer.Dispose();
            Assert.Throws<ObjectDisposedException>(() => buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>()));
        }
        else
        {
            var clock = Stopwatch.StartNew();
            PeerLostException? error = Attempt<PeerLostException>(() => buffer.Dispatch(Array.Empty<float>(), Array.Empty<int>()));
            Assert.NotNull(error);
            Assert.Equal(0, error.Peer.Rank);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(5));
        }
        await rank.Group.BarrierAsync();
    }

    private static async Task ArgumentErrorMayBeRepeatedAsync(RankContext rank)
    {
        Shape shape = Small(rank);
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        if (rank.Rank == 0)
        {
            for (int i = 0; i < 5; i++)
                Assert.Throws<ArgumentException>(() => buffer.Dispatch(new float[8], new[] { 1, 1 }));
        }
        Exchange.Run<float>(rank, buffer, shape, rank.SharedRandom());
        await rank.Group.BarrierAsync();
    }

    private static T? Attempt<T>(Action action)
        where T : Exception
    {
        try
        {
            action();
            return null;
        }
        catch (T error)
        {
            return error;
        }
    }
}

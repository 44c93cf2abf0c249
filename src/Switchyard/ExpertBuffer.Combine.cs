using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard;

public sealed unsafe partial class ExpertBuffer
{
    /// <summary>
    /// Brings the results of a dispatch's rows back to their tokens and adds them: in single precision, in a fixed order (rank-major: by
    /// rank; expert-major: by the token's choice), rounded once. A token without rows gets zeros. Weights are not applied: the experts' results
    /// are expected weighted, and in rank-major summed over the rank's experts. Collective.
    /// </summary>
    /// <param name="results">
    /// A row a received row, <see cref="Dispatched.RowCount"/> × hidden. In <see cref="Dispatched.ResultRows"/> or <see cref="Dispatched.Rows"/>
    /// nothing is copied, and the memory must not be written again until the result is disposed. Elsewhere it is copied to the arena first.
    /// </param>
    /// <param name="handle">The dispatch, or one that was dispatched with its handle; the same on all ranks.</param>
    /// <param name="output">Receives tokens × hidden sums; not in the arena.</param>
    /// <exception cref="ArgumentException">A shape, type, handle or memory is wrong. Nothing was sent; the call may be repeated.</exception>
    /// <exception cref="CapacityException">A rank has no room to copy its results to. Thrown on all ranks, before anything was read.</exception>
    /// <inheritdoc cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)" path="/exception[@cref='T:Switchyard.CallMismatchException' or @cref='T:Switchyard.PeerLostException' or @cref='T:Switchyard.PeerTimeoutException']"/>
    public void Combine(ReadOnlyTensorView results, DispatchHandle handle, TensorView output) =>
        Combine(results, handle, output, default, default);

    /// <summary>
    /// As <see cref="Combine(ReadOnlyTensorView, DispatchHandle, TensorView)"/>, and brings weights back as well: each of a token's choices
    /// gets the sum of what the rows that stand for it carry. Gradients of weights need it.
    /// </summary>
    /// <param name="results">As above.</param>
    /// <param name="handle">As above.</param>
    /// <param name="output">As above.</param>
    /// <param name="topkWeights">Per received row and column, as <see cref="Dispatched.TopkWeights"/>; copied to the arena.</param>
    /// <param name="reducedWeights">Receives tokens × top-k weights; 0 where a token chose nothing.</param>
    /// <inheritdoc cref="Combine(ReadOnlyTensorView, DispatchHandle, TensorView)" path="/exception"/>
    public void Combine(
        ReadOnlyTensorView results, DispatchHandle handle, TensorView output, ReadOnlyTensorView topkWeights, TensorView reducedWeights)
    {
        long epoch = Begin();
        try
        {
            RoutingPlan plan = PlanOf(handle);
            RequireCombineShapes(results, plan, output, topkWeights, reducedWeights);
            ResultState? state = FindResults(results, plan);
            fixed (byte* resultRows = &results.Origin)
            fixed (byte* outputRows = &output.Origin)
            fixed (byte* weights = &topkWeights.Origin)
            fixed (byte* reduced = &reducedWeights.Origin)
            {
                RequireOutsideArenas(outputRows, output, nameof(output));
                RequireOutsideArenas(reduced, reducedWeights, nameof(reducedWeights));
                Announcement announcement = Offer(epoch, results, resultRows, topkWeights, weights, plan, state, out Region copy, out Region weightsCopy);
                long readUntil = 0;
                try
                {
                    _epoch = epoch;
                    _engine.Announce(announcement, plan);
                    Agreement agreement = _engine.Agree(announcement, plan);
                    readUntil = epoch;
                    if (state is not null) MarkRead(state, resultRows, epoch);
                    _engine.Pull(new PullCall
                    {
                        Epoch = epoch,
                        Plan = plan,
                        Agreement = agreement,
                        Output = outputRows,
                        OutputStrideBytes = Arguments.StrideBytes(output, Options.Hidden),
                        ReducedWeights = (float*)reduced,
                    });
                }
                finally
                {
                    _pool.Return(copy, readUntil);
                    _pool.Return(weightsCopy, readUntil);
                }
            }
        }
        finally
        {
            Leave();
        }
    }

    private void RequireCombineShapes(
        ReadOnlyTensorView results, RoutingPlan plan, TensorView output, ReadOnlyTensorView topkWeights, TensorView reducedWeights)
    {
        long rows = plan.TotalRows[Group.Rank];
        int columns = Layout.ColumnsOf(plan.Layout);
        Arguments.RequireRows(results, nameof(results), rows, Options.Hidden, Options.Element, "received in the handle's dispatch");
        Arguments.RequireRows(output, nameof(output), plan.Tokens, Options.Hidden, Options.Element, "tokens of the handle");
        if (topkWeights.IsAbsent != reducedWeights.IsAbsent)
            throw new ArgumentException("topkWeights and reducedWeights must be given together.", topkWeights.IsAbsent ? nameof(topkWeights) : nameof(reducedWeights));
        Arguments.RequireWeights(topkWeights, nameof(topkWeights), rows, columns);
        Arguments.RequireWeights(reducedWeights, nameof(reducedWeights), plan.Tokens, Options.TopK);
    }

    /// <summary>The result whose memory <paramref name="results"/> is; null if it lies outside the arenas and must be copied.</summary>
    private ResultState? FindResults(ReadOnlyTensorView results, RoutingPlan plan)
    {
        if (results.Length == 0) return null;
        long offset = OffsetInArena(in results.Origin);
        if (offset < 0)
        {
            fixed (byte* rows = &results.Origin) RequireOutsideArenas(rows, results, nameof(results));
            return null;
        }
        foreach (ResultState state in _liveStates)
        {
            if (state.Plan != plan || !Arguments.IsContiguous(results)) continue;
            if (state.Rows.Offset == offset || (state.Results.Bytes > 0 && state.Results.Offset == offset)) return state;
        }
        throw new ArgumentException(
            $"results lies in the arena (at byte {offset}) but is neither the Rows nor the ResultRows of a result that is alive and came of the handle's plan.",
            nameof(results));
    }

    /// <summary>Makes results and weights readable to the peers, and says where they lie or why they cannot be.</summary>
    private Announcement Offer(
        long epoch,
        ReadOnlyTensorView results,
        byte* rows,
        ReadOnlyTensorView topkWeights,
        byte* weights,
        RoutingPlan plan,
        ResultState? state,
        out Region copy,
        out Region weightsCopy)
    {
        var site = new CallSite(Operation.Combine, CallPhase.AwaitDone, epoch);
        long count = plan.TotalRows[Group.Rank];
        long rowsBytes = ArenaLayout.AlignUp(count * Layout.RowBytes, ArenaLayout.LineBytes);
        long weightsBytes = ArenaLayout.AlignUp(count * Layout.ColumnsOf(plan.Layout) * sizeof(float), ArenaLayout.LineBytes);
        copy = weightsCopy = default;
        bool hasWeights = !topkWeights.IsAbsent;
        bool rowsFit = state is not null || TryTake(rowsBytes, site, out copy);
        bool fits = rowsFit && (!hasWeights || TryTake(weightsBytes, site, out weightsCopy));
        if (fits)
        {
            if (state is null) CopyRows(results, rows, copy);
            if (weightsCopy.Bytes > 0) Buffer.MemoryCopy(weights, ArenaBase + weightsCopy.Offset, weightsCopy.Bytes, count * Layout.ColumnsOf(plan.Layout) * sizeof(float));
        }
        return new Announcement
        {
            Epoch = epoch,
            Signature = new CallSignature(Operation.Combine, plan.Layout, (byte)(hasWeights ? 1 : 0), 0, plan.Alignment, plan.BirthEpoch),
            RegionOffset = state is not null ? rows - ArenaBase : copy.Offset,
            RegionRows = count,
            WeightsOffset = weightsCopy.Offset,
            NeededBytes = fits ? 0 : rowsFit ? weightsBytes : rowsBytes,
            AvailableBytes = fits ? 0 : _pool.LongestRun(),
        };
    }

    private void CopyRows(ReadOnlyTensorView results, byte* rows, Region copy)
    {
        if (copy.Bytes == 0) return;
        nint stride = Arguments.StrideBytes(results, Options.Hidden);
        nint count = results.Length / Options.Hidden;
        for (nint row = 0; row < count; row++)
            Buffer.MemoryCopy(rows + (row * stride), ArenaBase + copy.Offset + (row * (nint)Layout.RowBytes), Layout.RowBytes, Layout.RowBytes);
    }

    private void MarkRead(ResultState state, byte* rows, long epoch)
    {
        if (state.Rows.Offset == rows - ArenaBase) state.RowsReadUntil = epoch;
        else state.ResultsReadUntil = epoch;
    }

    private long OffsetInArena(ref readonly byte memory)
    {
        nint offset = Unsafe.ByteOffset(ref Unsafe.AsRef<byte>(ArenaBase), ref Unsafe.AsRef(in memory));
        return offset >= 0 && offset < Layout.TotalBytes ? offset : -1;
    }

    private void RequireOutsideArenas(byte* memory, ReadOnlyTensorView tensor, string name)
    {
        if (tensor.Length == 0) return;
        nint bytes = (((tensor.Rows - 1) * tensor.RowStride) + tensor.RowLength) * tensor.Element.SizeInBytes();
        for (int rank = 0; rank < _arenas.Length; rank++)
        {
            byte* arena = (byte*)_arenas[rank].Address;
            if (memory + bytes > arena && memory < arena + Layout.TotalBytes)
                throw new ArgumentException($"{name} lies in the arena of rank {rank}: give memory of your own.", name);
        }
    }
}

using System.Runtime.CompilerServices;
using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard;

public sealed unsafe partial class ExpertBuffer
{
    /// <summary>
    /// Brings the results of a dispatch's rows back to their tokens and adds them: in single precision, in a fixed order (rank-major: by
    /// rank; expert-major: by the token's choice; then the biases), rounded once. A token without rows gets the biases, or zeros. Weights are not
    /// applied unless <see cref="CombineOptions.ChoiceWeights"/> says so: the experts' results are expected weighted, and in rank-major
    /// summed over the rank's experts. Collective.
    /// </summary>
    /// <remarks>
    /// With <see cref="DispatchOptions.PreReduce"/> the sum has two stages: on each rank over the token's choices there, in order, rounded to
    /// the buffer's element; then by rank. The same inputs give the same bits in every run. A NaN among the terms, or infinities of both signs,
    /// give a NaN, whose bits are not the same on CPUs and GPUs.
    /// </remarks>
    /// <param name="results">
    /// A row a received row, <see cref="Dispatched.RowCount"/> × hidden of the buffer's element. In <see cref="Dispatched.ResultRows"/> or
    /// <see cref="Dispatched.Rows"/> nothing is copied, and the memory must not be written again until the result is disposed. Elsewhere it is
    /// copied to the arena first. (Pre-reduced sums are written to memory of their own, wherever the results lie.)
    /// </param>
    /// <param name="handle">The dispatch, or one that was dispatched with its handle; the same on all ranks.</param>
    /// <param name="output">Receives tokens × hidden sums; not in the arena.</param>
    /// <param name="options">Biases, weights to multiply by, weights to bring back.</param>
    /// <exception cref="ArgumentException">A shape, type, handle or memory is wrong. Nothing was sent; the call may be repeated.</exception>
    /// <exception cref="CapacityException">A rank has no room to copy its results to. Thrown on all ranks, before anything was read.</exception>
    /// <exception cref="VoidHandleException">The handle's dispatch was refused. Thrown on all ranks.</exception>
    /// <inheritdoc cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)" path="/exception[@cref='T:Switchyard.CallMismatchException' or @cref='T:Switchyard.PeerLostException' or @cref='T:Switchyard.PeerTimeoutException']"/>
    public void Combine(ReadOnlyTensorView results, DispatchHandle handle, TensorView output, in CombineOptions options = default)
    {
        long epoch = Begin();
        try
        {
            RoutingPlan plan = PlanOf(handle);
            RequireCombineShapes(results, plan, output, options);
            ResultState? state = FindResults(results, plan);
            fixed (byte* rows = &results.Origin)
            fixed (byte* outputRows = &output.Origin)
            fixed (byte* bias = &options.Bias.Origin)
            fixed (byte* secondBias = &options.SecondBias.Origin)
            fixed (byte* choiceWeights = &options.ChoiceWeights.Origin)
            fixed (byte* rowWeights = &options.RowWeights.Origin)
            fixed (byte* reduced = &options.ReducedWeights.Origin)
            {
                RequireOutsideArenas(outputRows, output, nameof(output));
                RequireOutsideArenas(reduced, options.ReducedWeights, nameof(options.ReducedWeights));
                _engine.Enter(options.Device);
                RowMemory resultRows = Arguments.Memory(rows, results, Options.Hidden);
                Region copy = default, weightsCopy = default;
                long readUntil = 0;
                bool isCaptured = _engine.IsCapturing;
                try
                {
                    Announcement announcement = Offer(epoch, plan, resultRows, state, rowWeights, hasWeights: !options.RowWeights.IsAbsent, ref copy, ref weightsCopy);
                    _epoch = epoch;
                    readUntil = isCaptured ? ResultState.ByGraphs : epoch; // also where it fails once others know of it
                    _engine.Combine(new CombineCall
                    {
                        Announcement = announcement,
                        Plan = plan,
                        Output = Arguments.Memory(outputRows, output, Options.Hidden),
                        Bias = Arguments.Memory(bias, options.Bias, Options.Hidden),
                        SecondBias = Arguments.Memory(secondBias, options.SecondBias, Options.Hidden),
                        ChoiceWeights = (float*)choiceWeights,
                        ReducedWeights = (float*)reduced,
                    });
                }
                catch (Exception e) when (LeavesBufferUsable(e))
                {
                    readUntil = 0;
                    throw;
                }
                finally
                {
                    if (readUntil != 0 && state is not null && !plan.IsPreReduced) MarkRead(state, rows, readUntil);
                    GiveUp(copy, plan, readUntil);
                    GiveUp(weightsCopy, plan, readUntil);
                }
            }
        }
        finally
        {
            Leave();
        }
    }

    private void RequireCombineShapes(ReadOnlyTensorView results, RoutingPlan plan, TensorView output, in CombineOptions options)
    {
        long rows = plan.ResultRows(Group.Rank);
        Arguments.RequireRows(results, nameof(results), rows, Options.Hidden, Options.Element, plan.IsFixedShape ? "the fixed shape" : "received in the handle's dispatch");
        Arguments.RequireRows(output, nameof(output), plan.Tokens, Options.Hidden, Options.Element, "tokens of the handle");
        Arguments.RequireBias(options.Bias, nameof(options.Bias), plan.Tokens, Options);
        Arguments.RequireBias(options.SecondBias, nameof(options.SecondBias), plan.Tokens, Options);
        RequireChoiceWeights(options.ChoiceWeights, plan);
        bool lacksRowWeights = options.RowWeights.IsAbsent;
        if (lacksRowWeights != options.ReducedWeights.IsAbsent)
        {
            throw new ArgumentException(
                "CombineOptions.RowWeights and CombineOptions.ReducedWeights must be given together.",
                lacksRowWeights ? nameof(options.RowWeights) : nameof(options.ReducedWeights));
        }
        Arguments.RequireWeights(options.RowWeights, nameof(options.RowWeights), rows, Layout.ColumnsOf(plan.Layout));
        Arguments.RequireWeights(options.ReducedWeights, nameof(options.ReducedWeights), plan.Tokens, Options.TopK);
        RequireReachable(results, output, options);
    }

    private void RequireReachable(ReadOnlyTensorView results, TensorView output, in CombineOptions options)
    {
        _engine.RequireReachable(results, nameof(results), Layout.RowBytes);
        _engine.RequireReachable(output, nameof(output), Layout.RowBytes);
        _engine.RequireReachable(options.Bias, nameof(options.Bias), Layout.RowBytes);
        _engine.RequireReachable(options.SecondBias, nameof(options.SecondBias), Layout.RowBytes);
        _engine.RequireReachable(options.ChoiceWeights, nameof(options.ChoiceWeights), 0);
        _engine.RequireReachable(options.RowWeights, nameof(options.RowWeights), 0);
        _engine.RequireReachable(options.ReducedWeights, nameof(options.ReducedWeights), 0);
    }

    private void RequireChoiceWeights(ReadOnlyTensorView weights, RoutingPlan plan)
    {
        if (weights.IsAbsent) return;
        if (plan.Layout == RowLayout.RankMajor)
            throw new ArgumentException("CombineOptions.ChoiceWeights is given, but a rank-major row stands for several choices: weight the results.", nameof(CombineOptions.ChoiceWeights));
        if (plan.IsPreReduced)
            throw new ArgumentException("CombineOptions.ChoiceWeights is given, but the dispatch was made with PreReduce, which adds before weights are known: weight the results.", nameof(CombineOptions.ChoiceWeights));
        Arguments.RequireWeights(weights, nameof(CombineOptions.ChoiceWeights), plan.Tokens, Options.TopK);
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
            if (state.Rows.Offset == offset && state.Region.Shape.Format == Layout.Format) return state;
            if (state.Results.Bytes > 0 && state.Results.Offset == offset) return state;
        }
        throw new ArgumentException(
            $"results lies in the arena (at byte {offset}) but is neither the Rows nor the ResultRows of a result that is alive and came of the handle's plan.",
            nameof(results));
    }

    /// <summary>Makes results and weights readable to the peers, and says where they lie or why they cannot be.</summary>
    private Announcement Offer(
        long epoch, RoutingPlan plan, RowMemory results, ResultState? state, byte* weights, bool hasWeights, ref Region copy, ref Region weightsCopy)
    {
        var site = new CallSite(Operation.Combine, CallPhase.AwaitDone, epoch);
        long rows = plan.SummedRows[Group.Rank];
        bool isThere = state is not null && !plan.IsPreReduced;
        long rowsBytes = ArenaLayout.AlignUp(rows * Layout.RowBytes, ArenaLayout.LineBytes);
        long weightsBytes = plan.TotalRows[Group.Rank] * Layout.ColumnsOf(plan.Layout) * sizeof(float);
        bool rowsFit = isThere || TryTake(rowsBytes, site, out copy);
        bool fits = rowsFit && (!hasWeights || TryTake(ArenaLayout.AlignUp(weightsBytes, ArenaLayout.LineBytes), site, out weightsCopy));
        if (fits)
        {
            if (copy.Bytes > 0) BringIn(new OfferCall { Plan = plan, Results = results, Destination = ArenaBase + copy.Offset });
            if (weightsCopy.Bytes > 0) _engine.CopyWeights((nint)weights, (nint)(ArenaBase + weightsCopy.Offset), weightsBytes);
        }
        return new Announcement
        {
            Epoch = epoch,
            Signature = new CallSignature(
                Operation.Combine, plan.Layout, TraitsOf(plan) | (hasWeights ? CallTraits.Weights : CallTraits.None), Float8Scaling.None, plan.Alignment, plan.BirthEpoch, Layout.Format),
            RegionOffset = isThere ? results.Address - (nint)ArenaBase : copy.Offset,
            RegionRows = rows,
            WeightsOffset = weightsCopy.Offset,
            NeededBytes = fits ? 0 : rowsFit ? weightsBytes : rowsBytes,
            AvailableBytes = fits ? 0 : _pool.LongestRun(),
        };
    }

    private void BringIn(in OfferCall call)
    {
        if (call.Plan.IsPreReduced) _engine.SumGroups(call);
        else _engine.CopyResults(call);
    }

    private void MarkRead(ResultState state, byte* rows, long epoch)
    {
        if (state.Rows.Offset == rows - ArenaBase) state.RowsReadUntil = Math.Max(state.RowsReadUntil, epoch);
        else state.ResultsReadUntil = Math.Max(state.ResultsReadUntil, epoch);
    }

    /// <summary>What a graph copies to stays its plan's. Where the call failed, those before may still read there.</summary>
    private void GiveUp(Region copy, RoutingPlan plan, long readUntil)
    {
        if (readUntil == ResultState.ByGraphs && copy.Bytes > 0) plan.GraphMemory.Add(copy);
        else ReturnRegion(copy, Math.Max(readUntil, copy.ReadUntil));
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

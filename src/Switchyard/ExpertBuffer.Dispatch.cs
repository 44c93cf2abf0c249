using System.Runtime.CompilerServices;
using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard;

public sealed unsafe partial class ExpertBuffer
{
    /// <summary>
    /// Sends each token's row to the ranks that hold the experts it chose, and returns what this rank received. Collective.
    /// </summary>
    /// <param name="x">This rank's tokens, tokens × hidden, of the buffer's element; may be empty.</param>
    /// <param name="topkIndices">Tokens × top-k experts, int32 or int64; -1 for no choice. The experts of a token must differ.</param>
    /// <param name="topkWeights">Tokens × top-k weights, single; absent: 1 each.</param>
    /// <param name="options">The same on all ranks.</param>
    /// <returns>The received rows, in the arena. Dispose it to give their memory back.</returns>
    /// <exception cref="ArgumentException">A shape, type or index is wrong. Nothing was sent; the call may be repeated.</exception>
    /// <exception cref="CapacityException">A rank would receive more than it has room for. Thrown on all ranks, before any row moved.</exception>
    /// <exception cref="CallMismatchException">The ranks do not make the same call. Thrown on all ranks.</exception>
    /// <exception cref="PeerLostException">A rank is gone.</exception>
    /// <exception cref="PeerTimeoutException">A rank did not do its part before <see cref="Deadline"/>.</exception>
    public Dispatched Dispatch(
        ReadOnlyTensorView x, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights = default, in DispatchOptions options = default)
    {
        long epoch = Begin();
        try
        {
            RoutingPlan plan = Plan(x, topkIndices, topkWeights, options);
            fixed (int* choices = _choices)
            fixed (byte* weights = &topkWeights.Origin)
            {
                return Exchange(Operation.Dispatch, epoch, x, plan, choices, (float*)weights);
            }
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>
    /// Sends rows the way an earlier dispatch sent its: the backward pass of a combine, for one. Rows travel without indices and weights. Collective.
    /// </summary>
    /// <param name="x">As many tokens as the earlier dispatch had, tokens × hidden.</param>
    /// <param name="handle">The earlier dispatch; the same one on all ranks.</param>
    /// <returns>The received rows, in the arena, arranged as in the earlier dispatch.</returns>
    /// <inheritdoc cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)" path="/exception"/>
    public Dispatched Dispatch(ReadOnlyTensorView x, DispatchHandle handle)
    {
        long epoch = Begin();
        try
        {
            RoutingPlan plan = PlanOf(handle);
            Arguments.RequireRows(x, nameof(x), plan.Tokens, Options.Hidden, Options.Element, "tokens of the handle");
            return Exchange(Operation.CachedDispatch, epoch, x, plan, null, null);
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>The phases of a dispatch: announce, agree, push, await.</summary>
    private Dispatched Exchange(Operation operation, long epoch, ReadOnlyTensorView x, RoutingPlan plan, int* choices, float* weights)
    {
        bool isCached = operation == Operation.CachedDispatch;
        Region region = Grant(plan, epoch, operation, out long capacityRows);
        var announcement = new Announcement
        {
            Epoch = epoch,
            Signature = new CallSignature(operation, plan.Layout, 0, 0, plan.Alignment, isCached ? plan.BirthEpoch : 0),
            RegionOffset = region.Offset,
            RegionRows = capacityRows,
        };
        _epoch = epoch;
        _engine.Announce(announcement, plan);
        Agreement agreement = Agree(announcement, plan, region);

        region = _pool.Trim(region, agreement.Regions[Group.Rank].Bytes);
        if (isCached) plan.Hold();
        else plan.Issue(epoch);
        ResultState state = NewState(epoch, plan, region, agreement.Regions[Group.Rank], hasMetadata: !isCached);
        if (!isCached) MarkPadding(state);

        fixed (byte* rows = &x.Origin)
        {
            _engine.Push(new PushCall
            {
                Epoch = epoch,
                Plan = plan,
                Agreement = agreement,
                Rows = rows,
                RowStrideBytes = Arguments.StrideBytes(x, Options.Hidden),
                TopkIndices = choices,
                TopkWeights = weights,
            });
        }
        _engine.AwaitRows(epoch, plan, new CallSite(operation, CallPhase.AwaitRows, epoch));
        return new Dispatched(state);
    }

    /// <summary>Checks the arguments and takes this rank's choices into a plan.</summary>
    private RoutingPlan Plan(ReadOnlyTensorView x, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights, in DispatchOptions options)
    {
        options.Validate();
        int tokens = Arguments.RequireTokens(x, Options);
        Arguments.RequireChoices(topkIndices, tokens, Options.TopK);
        Arguments.RequireWeights(topkWeights, nameof(topkWeights), tokens, Options.TopK);
        Arguments.CopyChoices(topkIndices, _choices.AsSpan(0, tokens * Options.TopK), Options);

        RoutingPlan plan = RentPlan();
        plan.Layout = options.Layout;
        plan.Alignment = options.ExpertAlignment;
        plan.Tokens = tokens;
        try
        {
            RoutingPlanner.Count(plan, _choices, _expertMarks);
        }
        catch (ArgumentException)
        {
            Recycle(plan);
            throw;
        }
        return plan;
    }

    /// <summary>Takes memory for what may arrive: all of the receive capacity, since the counts are not known yet.</summary>
    private Region Grant(RoutingPlan plan, long epoch, Operation operation, out long capacityRows)
    {
        long padding = (long)(plan.Alignment - 1) * plan.TokensPerExpert.Length;
        long wantedRows = operation == Operation.CachedDispatch ? plan.TotalRows[Group.Rank] : _receiveCapacity + padding;
        long wanted = Layout.Region(wantedRows, plan.Layout).Bytes;
        Region region = wanted == 0 ? default : _pool.Take(wanted);
        if (region.ReadUntil > 0) _engine.AwaitDone(region.ReadUntil, new CallSite(operation, CallPhase.AwaitDone, epoch));
        capacityRows = Math.Min(wantedRows, RegionLayout.MaxRows(region.Bytes, Layout.RowBytes, Layout.ColumnsOf(plan.Layout)));
        return region;
    }

    private Agreement Agree(in Announcement announcement, RoutingPlan plan, Region region)
    {
        try
        {
            return _engine.Agree(announcement, plan);
        }
        catch (CapacityException)
        {
            _pool.Return(region, readUntil: 0);
            if (announcement.Signature.Operation == Operation.Dispatch) Recycle(plan);
            throw;
        }
    }

    private RoutingPlan RentPlan()
    {
        lock (_freePlans)
        {
            if (_freePlans.TryPop(out RoutingPlan? plan)) return plan;
        }
        return new RoutingPlan(this, Layout, _placement, Group.Rank, Options.MaxTokensPerRank);
    }

    private ResultState NewState(long epoch, RoutingPlan plan, Region rows, RegionLayout region, bool hasMetadata)
    {
        if (!_freeStates.TryPop(out ResultState? state)) state = new ResultState(this);
        state.Epoch = epoch;
        state.Plan = plan;
        state.HasMetadata = hasMetadata;
        state.RowCount = region.Rows;
        state.Region = region;
        state.Rows = rows;
        state.Results = default;
        state.RowsReadUntil = 0;
        state.ResultsReadUntil = 0;
        _liveStates.Add(state);
        return state;
    }

    /// <summary>Gives alignment rows a source and expert of -1 and weight 0. Nobody sends them.</summary>
    private static void MarkPadding(ResultState state)
    {
        RoutingPlan plan = state.Plan;
        if (plan.Layout != RowLayout.ExpertMajor || plan.Alignment == 1) return;
        Span<RowSource> sources = state.Metadata<RowSource>(state.Region.SourcesOffset, 1);
        Span<int> indices = state.Metadata<int>(state.Region.IndicesOffset, 1);
        Span<float> weights = state.Metadata<float>(state.Region.WeightsOffset, 1);
        for (int expert = 0; expert < plan.TokensPerExpert.Length; expert++)
        {
            Range padding = (plan.ExpertOffsets[expert] + plan.TokensPerExpert[expert])..plan.ExpertOffsets[expert + 1];
            sources[padding].Fill(new RowSource(-1, -1));
            indices[padding].Fill(-1);
            weights[padding].Clear();
        }
    }

    private RoutingPlan PlanOf(DispatchHandle handle)
    {
        RoutingPlan plan = handle.Plan;
        if (plan.Owner != this) throw new ArgumentException("The handle comes from a dispatch of another buffer.", nameof(handle));
        return plan;
    }
}

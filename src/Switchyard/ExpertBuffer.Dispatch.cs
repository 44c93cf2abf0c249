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
    /// <exception cref="RoutingException">A rank's choices, which lie on its device, are wrong. Thrown on all ranks, before any row moved.</exception>
    /// <exception cref="CallMismatchException">The ranks do not make the same call. Thrown on all ranks.</exception>
    /// <exception cref="PeerLostException">A rank is gone.</exception>
    /// <exception cref="PeerTimeoutException">A rank did not do its part before <see cref="Deadline"/>.</exception>
    public Dispatched Dispatch(
        ReadOnlyTensorView x, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights = default, in DispatchOptions options = default)
    {
        long epoch = Begin();
        try
        {
            options.Validate();
            int tokens = Arguments.RequireTokens(x, Options);
            return Dispatch(epoch, Given(x, options.Quantize, options.ScaleLayout, nameof(options.Quantize)), tokens, topkIndices, topkWeights, options);
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>
    /// As <see cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)"/>, for rows that are quantized or
    /// packed already: their bytes and those of their scales travel untouched. Results are combined in the buffer's element all the same.
    /// </summary>
    /// <param name="x">This rank's tokens and their scales.</param>
    /// <param name="topkIndices">As above.</param>
    /// <param name="topkWeights">As above.</param>
    /// <param name="options">As above.</param>
    /// <inheritdoc cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)" path="/exception|/returns"/>
    public Dispatched Dispatch(
        ScaledRows x, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights = default, in DispatchOptions options = default)
    {
        long epoch = Begin();
        try
        {
            options.Validate();
            if (options.Quantize != Float8Scaling.None)
            {
                throw new ArgumentException(
                    $"DispatchOptions.Quantize is {options.Quantize}, but ScaledRows travel as they are: leave it None, or give rows of the buffer's element.", nameof(options.Quantize));
            }
            int tokens = Arguments.TokensIn(topkIndices, Options);
            var payload = new Payload(x, Arguments.RequireScaledRows(x, tokens, options.ScaleLayout));
            return Dispatch(epoch, payload, tokens, topkIndices, topkWeights, options);
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>
    /// Sends rows the way an earlier dispatch sent its, with its options but <see cref="DispatchOptions.Quantize"/>: the backward pass of a combine,
    /// for one. Rows travel without indices and weights. Collective.
    /// </summary>
    /// <param name="x">As many tokens as the earlier dispatch had, tokens × hidden.</param>
    /// <param name="handle">The earlier dispatch; the same one on all ranks.</param>
    /// <param name="device">Where the call's work stands among that of a device.</param>
    /// <param name="quantize">As <see cref="DispatchOptions.Quantize"/>, whatever the earlier dispatch had; the same on all ranks.</param>
    /// <returns>The received rows, in the arena, arranged as in the earlier dispatch.</returns>
    /// <exception cref="VoidHandleException">The handle's dispatch was refused. Thrown on all ranks.</exception>
    /// <inheritdoc cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)" path="/exception"/>
    public Dispatched Dispatch(
        ReadOnlyTensorView x, DispatchHandle handle, in DeviceOptions device = default, Float8Scaling quantize = Float8Scaling.None)
    {
        long epoch = Begin();
        try
        {
            RoutingPlan plan = PlanOf(handle);
            Arguments.RequireScaling(quantize, nameof(quantize), nameof(quantize));
            Arguments.RequireRows(x, nameof(x), plan.Tokens, Options.Hidden, Options.Element, "tokens of the handle");
            Payload payload = Given(x, quantize, plan.Options.ScaleLayout, nameof(quantize));
            _engine.Enter(device);
            return Exchange(Operation.CachedDispatch, epoch, payload, plan, default, default);
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>As <see cref="Dispatch(ReadOnlyTensorView, DispatchHandle, in DeviceOptions, Float8Scaling)"/>, for rows that are quantized or packed already.</summary>
    /// <param name="x">As many tokens as the earlier dispatch had, and their scales.</param>
    /// <param name="handle">As above.</param>
    /// <param name="device">As above.</param>
    /// <inheritdoc cref="Dispatch(ReadOnlyTensorView, ReadOnlyTensorView, ReadOnlyTensorView, in DispatchOptions)" path="/exception|/returns"/>
    public Dispatched Dispatch(ScaledRows x, DispatchHandle handle, in DeviceOptions device = default)
    {
        long epoch = Begin();
        try
        {
            RoutingPlan plan = PlanOf(handle);
            var payload = new Payload(x, Arguments.RequireScaledRows(x, plan.Tokens, plan.Options.ScaleLayout));
            _engine.Enter(device);
            return Exchange(Operation.CachedDispatch, epoch, payload, plan, default, default);
        }
        finally
        {
            Leave();
        }
    }

    private Dispatched Dispatch(
        long epoch, Payload payload, int tokens, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights, in DispatchOptions options)
    {
        Arguments.RequireChoices(topkIndices, tokens, Options.TopK);
        Arguments.RequireWeights(topkWeights, nameof(topkWeights), tokens, Options.TopK);
        _engine.RequireReachable(topkIndices, nameof(topkIndices), 0);
        _engine.RequireReachable(topkWeights, nameof(topkWeights), 0);
        _engine.Enter(options.Device);
        RoutingPlan plan = RentPlan();
        plan.Begin(options, tokens);
        try
        {
            long lacking = _engine.Count(plan, topkIndices);
            return Exchange(Operation.Dispatch, epoch, payload, plan, topkIndices, topkWeights, lacking);
        }
        catch (Exception e) when (LeavesBufferUsable(e))
        {
            Recycle(plan);
            throw;
        }
    }

    /// <summary>Grants memory, exchanges rows, and hands out what came.</summary>
    private Dispatched Exchange(
        Operation operation,
        long epoch,
        Payload payload,
        RoutingPlan plan,
        ReadOnlyTensorView topkIndices,
        ReadOnlyTensorView topkWeights,
        long lacking = 0)
    {
        ScaledRows x = payload.Given;
        RowFormat format = payload.Format;
        _engine.RequireReachable(x.Rows, nameof(x), payload.Quantize == Float8Scaling.None ? format.RowBytes : Layout.RowBytes);
        _engine.RequireReachable(x.Scales, nameof(x), 0);
        bool isCached = operation == Operation.CachedDispatch;
        Announcement announcement = Grant(operation, epoch, plan, payload, lacking, out Region region);
        _epoch = epoch;
        try
        {
            fixed (byte* rows = &x.Rows.Origin)
            fixed (byte* scales = &x.Scales.Origin)
            fixed (byte* indices = &topkIndices.Origin)
            fixed (byte* weights = &topkWeights.Origin)
            {
                _engine.Dispatch(new DispatchCall
                {
                    Announcement = announcement,
                    Plan = plan,
                    Rows = Arguments.Memory(rows, x.Rows, format.RowLength),
                    Scales = Arguments.Memory(scales, x.Scales, format.ScalesPerRow),
                    TopkIndices = (nint)indices,
                    IndexElement = topkIndices.Element,
                    TopkWeights = (float*)weights,
                });
            }
        }
        catch (Exception e) when (LeavesBufferUsable(e))
        {
            _pool.Return(region, region.ReadUntil);
            throw;
        }
        if (isCached) plan.Hold();
        else plan.Issue(epoch);
        RegionLayout received = plan.RegionOf(Group.Rank, format);
        return new Dispatched(NewState(epoch, plan, _pool.Trim(region, received.Bytes), received, hasMetadata: !isCached));
    }

    /// <summary>
    /// Takes memory for what may arrive, all of the receive capacity where the counts are not known yet, and says so; or says that there is not
    /// enough for a result of fixed shape, or of other memory that the call is <paramref name="lacking"/>.
    /// </summary>
    private Announcement Grant(Operation operation, long epoch, RoutingPlan plan, Payload payload, long lacking, out Region region)
    {
        bool isCached = operation == Operation.CachedDispatch;
        long wantedRows = isCached ? plan.ResultRows(Group.Rank) : plan.MostRows(Group.Rank);
        RegionShape shape = plan.ShapeOf(Group.Rank, payload.Format);
        long wanted = new RegionLayout(wantedRows, plan.IsPreReduced ? wantedRows : 0, shape).Bytes;
        region = wanted == 0 || lacking > 0 ? default : _pool.Take(wanted);
        bool isTooLittle = lacking == 0 && plan.IsFixedShape && region.Bytes < wanted;
        if (isTooLittle)
        {
            _pool.Return(region, region.ReadUntil);
            region = default;
        }
        if (region.ReadUntil > 0) _engine.AwaitDone(region.ReadUntil, new CallSite(operation, CallPhase.AwaitDone, epoch));
        return new Announcement
        {
            Epoch = epoch,
            Signature = new CallSignature(
                operation, plan.Layout, TraitsOf(plan), payload.Quantize, plan.Alignment, isCached ? plan.BirthEpoch : 0, payload.Format),
            RegionOffset = region.Offset,
            RegionRows = Math.Min(wantedRows, RegionLayout.MaxRows(region.Bytes, shape)),
            NeededBytes = isTooLittle ? wanted : lacking,
            AvailableBytes = isTooLittle ? _pool.LongestRun() : 0,
        };
    }

    /// <summary>Whether what a failed call took may be used again: nobody writes there.</summary>
    private static bool LeavesBufferUsable(Exception failure) => failure is not SwitchyardException { Recovery: not Recovery.CallAgain };

    private static CallTraits TraitsOf(RoutingPlan plan) =>
        (plan.IsFixedShape ? CallTraits.FixedShape : CallTraits.None) | (plan.IsPreReduced ? CallTraits.PreReduce : CallTraits.None);

    /// <summary>Rows of the buffer's element, to travel as they are or quantized.</summary>
    private Payload Given(ReadOnlyTensorView x, Float8Scaling quantize, ScaleLayout scaleLayout, string name)
    {
        if (quantize == Float8Scaling.None) return new Payload(new ScaledRows(x), Layout.Format);
        var format = new RowFormat(Options.Hidden, quantize, scaleLayout);
        int granularity = Options.Backend.ScaleUp.RowGranularity;
        if (format.RowBytes % granularity != 0)
        {
            throw new ArgumentException(
                $"{name} is {quantize}: such rows have a byte an element, ExpertBufferOptions.Hidden = {format.RowBytes}, but the buffer's backend moves multiples of {granularity} bytes.", name);
        }
        return new Payload(new ScaledRows(x), format, quantize);
    }

    private RoutingPlan RentPlan()
    {
        lock (_freePlans)
        {
            if (_freePlans.TryPop(out RoutingPlan? plan))
            {
                ReturnGraphMemory(plan);
                return plan;
            }
        }
        return new RoutingPlan(this, Layout, _placement, Group.Rank, Options.MaxTokensPerRank, _receiveCapacity);
    }

    private ResultState NewState(long epoch, RoutingPlan plan, Region rows, RegionLayout region, bool hasMetadata)
    {
        if (!_freeStates.TryPop(out ResultState? state)) state = new ResultState(this);
        state.Epoch = epoch;
        state.Plan = plan;
        state.HasMetadata = hasMetadata;
        state.Region = region;
        state.Rows = rows;
        state.Results = default;
        state.RowsReadUntil = 0;
        state.ResultsReadUntil = 0;
        _liveStates.Add(state);
        return state;
    }

    private RoutingPlan PlanOf(DispatchHandle handle)
    {
        RoutingPlan plan = handle.Plan;
        if (plan.Owner != this) throw new ArgumentException("The handle comes from a dispatch of another buffer.", nameof(handle));
        return plan;
    }

    /// <summary>What a call sends: the caller's rows, what they are as they travel, and how they become that.</summary>
    private readonly ref struct Payload(ScaledRows given, RowFormat format, Float8Scaling quantize = Float8Scaling.None)
    {
        public ScaledRows Given { get; } = given;

        public RowFormat Format { get; } = format;

        public Float8Scaling Quantize { get; } = quantize;
    }
}

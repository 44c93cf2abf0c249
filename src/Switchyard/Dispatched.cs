using System.Runtime.CompilerServices;
using Switchyard.Arena;
using Switchyard.Planning;

namespace Switchyard;

/// <summary>
/// What a rank received in a dispatch: views of the arena, valid until <see cref="Dispose"/>, which gives the memory back.
/// Rows may be overwritten in place; after they have been given to a combine they may only be read, for peers read them too.
/// </summary>
/// <remarks>
/// Shapes: n = <see cref="RowCount"/> rows; columns = top-k in rank-major, 1 in expert-major. Views must not be used after
/// <see cref="Dispose"/>. A cached dispatch brings rows and scales alone: its <see cref="TopkIndices"/>, <see cref="TopkWeights"/>, <see cref="Sources"/>
/// and <see cref="Counts"/> throw <see cref="InvalidOperationException"/>; those of the first dispatch hold for it too.
/// Not thread-safe; it belongs to the buffer's one caller.
/// </remarks>
public readonly unsafe struct Dispatched : IDisposable
{
    private readonly ResultState? _state;
    private readonly long _epoch;

    internal Dispatched(ResultState state)
    {
        _state = state;
        _epoch = state.Epoch;
    }

    /// <summary>Received rows, n; in expert-major alignment padding included. In a fixed shape as many as can come.</summary>
    public int RowCount => (int)State.Region.Rows;

    /// <summary>How the rows are arranged.</summary>
    public RowLayout Layout => State.Plan.Layout;

    /// <summary>The rows as they were sent, n × row length (hidden, unless <see cref="ScaledRows"/> had another), in the arena.</summary>
    public TensorView Rows => State.View(State.Rows, State.Region.Shape.Format);

    /// <summary>
    /// The rows' scales, in the arena: n × scales a row, or with <see cref="ScaleLayout.ColumnMajor"/> scales a row × n, a stride apart.
    /// Absent where rows came without scales.
    /// </summary>
    public TensorView Scales => State.ScalesView();

    /// <summary>
    /// Room for the experts' results, n × hidden of the buffer's element, in the arena, so that combine need not copy them. Taken from the pool when first asked for,
    /// which may wait for peers that still read what was there. On a device the stream waits, and after calls with <see cref="DeviceOptions.Overlap"/>
    /// for those that were enqueued too: ask behind what is to run beside them.
    /// </summary>
    /// <exception cref="CapacityException">The pool has no room: dispose a result, or raise <see cref="ExpertBufferOptions.MemoryBudget"/>.</exception>
    public TensorView ResultRows => State.Owner.ResultRowsOf(State);

    /// <summary>Per row and column: the local expert the token chose, or -1 (an expert elsewhere, no choice, padding).</summary>
    /// <exception cref="InvalidOperationException">The arena is a device's memory: use <see cref="TopkIndicesView"/>. So for the next two.</exception>
    public ReadOnlySpan<int> TopkIndices => State.Metadata<int>(State.Region.IndicesOffset, State.Columns);

    /// <summary>Per row and column: the weight of that choice, or 0. Nothing is multiplied by it: that is the experts' part.</summary>
    public Span<float> TopkWeights => State.Metadata<float>(State.Region.WeightsOffset, State.Columns);

    /// <summary>Per row: the rank it came from and its token there, as pairs; -1, -1 for padding.</summary>
    public ReadOnlySpan<RowSource> Sources => State.Metadata<RowSource>(State.Region.SourcesOffset, 1);

    /// <summary><see cref="TopkIndices"/> as a tensor, n × columns of Int32, wherever the arena is.</summary>
    public TensorView TopkIndicesView => State.MetadataView(State.Region.IndicesOffset, State.Columns, ElementType.Int32);

    /// <summary><see cref="TopkWeights"/> as a tensor, n × columns of Single, wherever the arena is.</summary>
    public TensorView TopkWeightsView => State.MetadataView(State.Region.WeightsOffset, State.Columns, ElementType.Single);

    /// <summary><see cref="Sources"/> as a tensor, n × 2 of Int32, wherever the arena is.</summary>
    public TensorView SourcesView => State.MetadataView(State.Region.SourcesOffset, 2, ElementType.Int32);

    /// <summary>Per local expert: choices of all ranks.</summary>
    /// <exception cref="InvalidOperationException">The result has a fixed shape: see <see cref="Counts"/>.</exception>
    public ReadOnlySpan<int> TokensPerExpert => PlanWithCounts.TokensPerExpert;

    /// <summary>Expert-major: per local expert its first row, then the end. Rows of expert e: [offset e, offset e + its tokens).</summary>
    /// <exception cref="InvalidOperationException">The rows are rank-major, or the result has a fixed shape: see <see cref="Counts"/>.</exception>
    public ReadOnlySpan<int> ExpertOffsets => State.Plan.Layout == RowLayout.ExpertMajor
        ? PlanWithCounts.ExpertOffsets
        : throw new InvalidOperationException("Rank-major rows are not grouped by expert: use TopkIndices, or dispatch with RowLayout.ExpertMajor.");

    /// <summary>Per rank: rows that came from it.</summary>
    /// <exception cref="InvalidOperationException">The result has a fixed shape: see <see cref="Sources"/>.</exception>
    public ReadOnlySpan<int> RowsPerSource => PlanWithCounts.ReceivedFrom;

    /// <summary>
    /// In a fixed shape, with L local experts: 2 + 2L numbers (int32) in the arena. The rows that came, alignment included; per local expert the
    /// choices of all ranks; per local expert its first row, then the end (in rank-major zeros).
    /// </summary>
    /// <exception cref="InvalidOperationException">The result has no fixed shape: its counts are known to the host.</exception>
    public TensorView Counts => State.CountsView();

    /// <summary>The plan, for combine and cached dispatches, until this result is disposed; <see cref="DispatchHandle.Keep"/> it to use it longer.</summary>
    public DispatchHandle Handle => new(State.Plan);

    /// <summary>Gives the memory back. Local, idempotent, never waits: memory that peers still read is reused only when they are done.</summary>
    public void Dispose()
    {
        if (_state is { } state && state.Epoch == _epoch) state.Owner.Return(state);
    }

    private RoutingPlan PlanWithCounts => State.Plan is { IsFixedShape: false } plan
        ? plan
        : throw new InvalidOperationException("The result has a fixed shape: its counts are in the arena (Counts), not known to the host.");

    private ResultState State
    {
        get
        {
            ObjectDisposedException.ThrowIf(_state is null || _state.Epoch != _epoch, typeof(Dispatched));
            return _state;
        }
    }
}

/// <summary>Where a received row came from.</summary>
/// <param name="Rank">The rank that sent it.</param>
/// <param name="Token">Its index among that rank's tokens.</param>
public readonly record struct RowSource(int Rank, int Token);

/// <summary>The memory and the plan behind a <see cref="Dispatched"/>; reused, and told apart by its epoch (0 while unused).</summary>
internal sealed unsafe class ResultState(ExpertBuffer owner)
{
    /// <summary>In place of the last combine that read memory: one in a graph, which may run again.</summary>
    public const long ByGraphs = long.MaxValue;

    public ExpertBuffer Owner { get; } = owner;

    public long Epoch { get; set; }

    public RoutingPlan Plan { get; set; } = null!;

    public bool HasMetadata { get; set; }

    public RegionLayout Region { get; set; }

    public Region Rows { get; set; }

    public Region Results { get; set; }

    /// <summary>The last combine that read the rows, or <see cref="ByGraphs"/>; 0 for none.</summary>
    public long RowsReadUntil { get; set; }

    public long ResultsReadUntil { get; set; }

    public int Columns => Owner.Layout.ColumnsOf(Plan.Layout);

    /// <summary>As many rows as the result has, at the start of a region.</summary>
    public TensorView View(Region region, RowFormat format) =>
        new(ref Unsafe.AsRef<byte>(Owner.ArenaBase + region.Offset), (nint)Region.Rows, format.RowLength, format.RowLength, format.Element, Owner.Device);

    public TensorView ScalesView()
    {
        RowFormat format = Region.Shape.Format;
        if (format.ScaleBytes == 0) return default;
        ref byte origin = ref Unsafe.AsRef<byte>(Owner.ArenaBase + Rows.Offset + Region.ScalesOffset);
        nint rows = (nint)Region.Rows, scales = format.ScalesPerRow;
        if (format.ScaleLayout == ScaleLayout.RowMajor) return new(ref origin, rows, scales, scales, format.ScaleElement, Owner.Device);
        nint stride = (nint)(format.ScaleColumnBytes(rows) / format.ScaleElement.SizeInBytes());
        return new(ref origin, scales, rows, stride, format.ScaleElement, Owner.Device);
    }

    public TensorView CountsView()
    {
        if (!Plan.IsFixedShape) throw new InvalidOperationException("The result has no fixed shape: read RowCount, TokensPerExpert and ExpertOffsets.");
        RequireMetadata();
        int words = Region.Shape.CountWords;
        return new(ref Unsafe.AsRef<byte>(Owner.ArenaBase + Rows.Offset + Region.CountsOffset), 1, words, words, ElementType.Int32, Owner.Device);
    }

    public Span<T> Metadata<T>(long offset, int columns)
        where T : unmanaged
    {
        RequireMetadata();
        TensorView.RequireHost(Owner.Device);
        return new Span<T>(Owner.ArenaBase + Rows.Offset + offset, checked((int)(Region.Rows * columns)));
    }

    public TensorView MetadataView(long offset, int columns, ElementType element)
    {
        RequireMetadata();
        return new(ref Unsafe.AsRef<byte>(Owner.ArenaBase + Rows.Offset + offset), (nint)Region.Rows, columns, columns, element, Owner.Device);
    }

    private void RequireMetadata()
    {
        if (!HasMetadata)
            throw new InvalidOperationException("A cached dispatch brings rows alone: read indices, weights, sources and counts from the first dispatch's result.");
    }
}

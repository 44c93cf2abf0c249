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
/// <see cref="Dispose"/>. A cached dispatch brings rows alone: its <see cref="TopkIndices"/>, <see cref="TopkWeights"/> and <see cref="Sources"/>
/// throw <see cref="InvalidOperationException"/>; those of the first dispatch hold for it too.
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

    /// <summary>Received rows, n; in expert-major alignment padding included.</summary>
    public int RowCount => (int)State.RowCount;

    /// <summary>How the rows are arranged.</summary>
    public RowLayout Layout => State.Plan.Layout;

    /// <summary>The rows, n × hidden, in the arena.</summary>
    public TensorView Rows => State.View(State.Rows);

    /// <summary>
    /// Room for the experts' results, n × hidden, in the arena, so that combine need not copy them. Taken from the pool when first asked for,
    /// which may wait for peers that still read what was there.
    /// </summary>
    /// <exception cref="CapacityException">The pool has no room: dispose a result, or raise <see cref="ExpertBufferOptions.MemoryBudget"/>.</exception>
    public TensorView ResultRows => State.Owner.ResultRowsOf(State);

    /// <summary>Per row and column: the local expert the token chose, or -1 (an expert elsewhere, no choice, padding).</summary>
    public ReadOnlySpan<int> TopkIndices => State.Metadata<int>(State.Region.IndicesOffset, State.Columns);

    /// <summary>Per row and column: the weight of that choice, or 0. Nothing is multiplied by it: that is the experts' part.</summary>
    public Span<float> TopkWeights => State.Metadata<float>(State.Region.WeightsOffset, State.Columns);

    /// <summary>Per row: the rank it came from and its token there, as pairs; -1, -1 for padding.</summary>
    public ReadOnlySpan<RowSource> Sources => State.Metadata<RowSource>(State.Region.SourcesOffset, 1);

    /// <summary>Per local expert: choices of all ranks.</summary>
    public ReadOnlySpan<int> TokensPerExpert => State.Plan.TokensPerExpert;

    /// <summary>Expert-major: per local expert its first row, then the end. Rows of expert e: [offset e, offset e + its tokens).</summary>
    /// <exception cref="InvalidOperationException">The rows are rank-major.</exception>
    public ReadOnlySpan<int> ExpertOffsets => State.Plan.Layout == RowLayout.ExpertMajor
        ? State.Plan.ExpertOffsets
        : throw new InvalidOperationException("Rank-major rows are not grouped by expert: use TopkIndices, or dispatch with RowLayout.ExpertMajor.");

    /// <summary>Per rank: rows that came from it.</summary>
    public ReadOnlySpan<int> RowsPerSource => State.Plan.ReceivedFrom;

    /// <summary>The plan, for combine and cached dispatches. Take it before this result is disposed; it may be used after.</summary>
    public DispatchHandle Handle => new(State.Plan);

    /// <summary>Gives the memory back. Local, idempotent, never waits: memory that peers still read is reused only when they are done.</summary>
    public void Dispose()
    {
        if (_state is { } state && state.Epoch == _epoch) state.Owner.Return(state);
    }

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
    public ExpertBuffer Owner { get; } = owner;

    public long Epoch { get; set; }

    public RoutingPlan Plan { get; set; } = null!;

    public bool HasMetadata { get; set; }

    public long RowCount { get; set; }

    public RegionLayout Region { get; set; }

    public Region Rows { get; set; }

    public Region Results { get; set; }

    /// <summary>The last combine that read the rows; 0 for none.</summary>
    public long RowsReadUntil { get; set; }

    public long ResultsReadUntil { get; set; }

    public int Columns => Owner.Layout.ColumnsOf(Plan.Layout);

    public TensorView View(Region region)
    {
        ArenaLayout layout = Owner.Layout;
        return new(ref Unsafe.AsRef<byte>(Owner.ArenaBase + region.Offset), (nint)RowCount, layout.Hidden, layout.Hidden, layout.Element);
    }

    public Span<T> Metadata<T>(long offset, int columns)
        where T : unmanaged =>
        HasMetadata
            ? new Span<T>(Owner.ArenaBase + Rows.Offset + offset, checked((int)(RowCount * columns)))
            : throw new InvalidOperationException("A cached dispatch brings rows alone: read indices, weights and sources from the first dispatch's result.");
}

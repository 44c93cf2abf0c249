using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Switchyard;

/// <summary>
/// A tensor argument that is only read: rows of elements somewhere in memory. Converts implicitly from arrays and spans, which
/// are flat (the callee knows the row length); <see cref="FromPointer"/> describes strided or native memory.
/// </summary>
/// <remarks>The memory stays the caller's; it must not move or be written to until the call has returned.</remarks>
public readonly ref struct ReadOnlyTensorView
{
    private readonly ref readonly byte _origin;
    private readonly int _deviceAndOne;

    internal ReadOnlyTensorView(ref readonly byte origin, nint rows, nint rowLength, nint rowStride, ElementType element, int device = -1)
    {
        _origin = ref origin;
        Rows = rows;
        RowLength = rowLength;
        RowStride = rowStride;
        Element = element;
        _deviceAndOne = device + 1;
    }

    /// <summary>The number of rows; 1 for a flat span.</summary>
    public nint Rows { get; }

    /// <summary>Elements in a row; for a flat span all its elements.</summary>
    public nint RowLength { get; }

    /// <summary>Elements from the start of one row to the start of the next.</summary>
    public nint RowStride { get; }

    /// <summary>The element type; <see cref="ElementType.None"/> for an absent tensor.</summary>
    public ElementType Element { get; }

    /// <inheritdoc cref="TensorView.Device"/>
    public int Device => _deviceAndOne - 1;

    /// <inheritdoc cref="TensorView.Address"/>
    public unsafe nint Address => (nint)Unsafe.AsPointer(ref Unsafe.AsRef(in _origin));

    /// <summary>Whether no tensor was given.</summary>
    public bool IsAbsent => Element == ElementType.None;

    /// <summary>All elements, padding between rows left out.</summary>
    public nint Length => Rows * RowLength;

    internal ref readonly byte Origin => ref _origin;

    /// <summary>Describes memory by its address. Nothing keeps it alive but the caller.</summary>
    /// <param name="address">The first element of the first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="rowLength">Elements in a row.</param>
    /// <param name="rowStride">Elements from row to row; at least <paramref name="rowLength"/>.</param>
    /// <param name="element">The element type.</param>
    /// <param name="device">The CUDA device whose memory it is, by its number; -1 for memory of the host.</param>
    /// <exception cref="ArgumentException">A size is negative, the stride is too small, or a tensor that is not empty has no address.</exception>
    public static unsafe ReadOnlyTensorView FromPointer(nint address, nint rows, nint rowLength, nint rowStride, ElementType element, int device = -1) =>
        TensorView.FromPointer(address, rows, rowLength, rowStride, element, device);

    /// <summary>Views a span of elements.</summary>
    public static ReadOnlyTensorView FromSpan<T>(ReadOnlySpan<T> span)
        where T : unmanaged
    {
        ElementType element = ElementTypes.Of<T>();
        return new(ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(span)), 1, span.Length, span.Length, element);
    }

    /// <summary>Views a span of elements as rows; an empty one too then tells the length of its rows.</summary>
    /// <param name="span">The elements.</param>
    /// <param name="rowLength">Elements in a row.</param>
    /// <exception cref="ArgumentException">The span's length is no multiple of the row length.</exception>
    public static ReadOnlyTensorView FromSpan<T>(ReadOnlySpan<T> span, nint rowLength)
        where T : unmanaged
    {
        nint rows = TensorView.RowsIn(span.Length, rowLength);
        return new(ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(span)), rows, rowLength, rowLength, ElementTypes.Of<T>());
    }

    /// <summary>The elements as a span; rows must be adjacent and the element type must be <typeparamref name="T"/>.</summary>
    /// <exception cref="InvalidOperationException">The view has gaps between rows, another element type, or too many elements for a span.</exception>
    public ReadOnlySpan<T> AsSpan<T>()
        where T : unmanaged
    {
        TensorView.RequireHost(Device);
        TensorView.RequireSpan<T>(Rows, RowLength, RowStride, Element);
        return MemoryMarshal.CreateReadOnlySpan(ref Unsafe.As<byte, T>(ref Unsafe.AsRef(in _origin)), (int)Length);
    }

    /// <summary>One row as a span.</summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="row"/> is not a row of the view.</exception>
    /// <exception cref="InvalidOperationException">The view has another element type.</exception>
    public ReadOnlySpan<T> Row<T>(nint row)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Rows);
        TensorView.RequireHost(Device);
        TensorView.RequireElement<T>(Element);
        ref T start = ref Unsafe.As<byte, T>(ref Unsafe.AsRef(in _origin));
        return MemoryMarshal.CreateReadOnlySpan(ref Unsafe.Add(ref start, row * RowStride), checked((int)RowLength));
    }

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<BFloat16> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<float> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<int> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<long> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<BFloat16> span) => FromSpan<BFloat16>(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<float> span) => FromSpan<float>(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<int> span) => FromSpan<int>(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<long> span) => FromSpan<long>(span);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(BFloat16[]? array) => array is null ? default : FromSpan<BFloat16>(array);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(float[]? array) => array is null ? default : FromSpan<float>(array);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(int[]? array) => array is null ? default : FromSpan<int>(array);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(long[]? array) => array is null ? default : FromSpan<long>(array);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<Half> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<Half> span) => FromSpan<Half>(span);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(Half[]? array) => array is null ? default : FromSpan<Half>(array);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<Float8E4M3> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<Float8E4M3> span) => FromSpan<Float8E4M3>(span);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(Float8E4M3[]? array) => array is null ? default : FromSpan<Float8E4M3>(array);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<byte> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator ReadOnlyTensorView(Span<byte> span) => FromSpan<byte>(span);

    /// <summary>Views an array.</summary>
    public static implicit operator ReadOnlyTensorView(byte[]? array) => array is null ? default : FromSpan<byte>(array);

    /// <summary>Reads what could also be written.</summary>
    public static implicit operator ReadOnlyTensorView(TensorView view) =>
        new(ref view.Origin, view.Rows, view.RowLength, view.RowStride, view.Element, view.Device);
}

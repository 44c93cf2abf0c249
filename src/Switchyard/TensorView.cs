using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Switchyard;

/// <summary>
/// A tensor argument that may be written: rows of elements somewhere in memory. Converts implicitly from arrays and spans, which
/// are flat (the callee knows the row length); <see cref="FromPointer"/> describes strided or native memory.
/// </summary>
/// <remarks>The memory stays its owner's; it must not move or be used by others until the call has returned.</remarks>
public readonly ref struct TensorView
{
    private readonly ref byte _origin;
    private readonly int _deviceAndOne; // so that an absent tensor is on none

    internal TensorView(ref byte origin, nint rows, nint rowLength, nint rowStride, ElementType element, int device = -1)
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

    /// <summary>The CUDA device whose memory it is, by its number; -1 for memory of the host.</summary>
    public int Device => _deviceAndOne - 1;

    /// <summary>The address of the first element: of memory that does not move, such as an arena's, or a device's.</summary>
    public unsafe nint Address => (nint)Unsafe.AsPointer(ref Unsafe.AsRef(in _origin));

    /// <summary>Whether no tensor was given.</summary>
    public bool IsAbsent => Element == ElementType.None;

    /// <summary>All elements, padding between rows left out.</summary>
    public nint Length => Rows * RowLength;

    internal ref byte Origin => ref _origin;

    /// <inheritdoc cref="ReadOnlyTensorView.FromPointer"/>
    public static unsafe TensorView FromPointer(nint address, nint rows, nint rowLength, nint rowStride, ElementType element, int device = -1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(device, -1);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfNegative(rowLength);
        ArgumentOutOfRangeException.ThrowIfLessThan(rowStride, rowLength);
        _ = element.SizeInBytes();
        if (address == 0 && rows * rowLength != 0)
            throw new ArgumentException($"A tensor of {rows} x {rowLength} elements needs an address.", nameof(address));
        return new(ref Unsafe.AsRef<byte>((void*)address), rows, rowLength, rowStride, element, device);
    }

    /// <summary>Views a span of elements.</summary>
    public static TensorView FromSpan<T>(Span<T> span)
        where T : unmanaged
    {
        ElementType element = ElementTypes.Of<T>();
        return new(ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(span)), 1, span.Length, span.Length, element);
    }

    /// <inheritdoc cref="ReadOnlyTensorView.FromSpan{T}(ReadOnlySpan{T}, nint)"/>
    public static TensorView FromSpan<T>(Span<T> span, nint rowLength)
        where T : unmanaged
    {
        nint rows = RowsIn(span.Length, rowLength);
        return new(ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(span)), rows, rowLength, rowLength, ElementTypes.Of<T>());
    }

    /// <inheritdoc cref="ReadOnlyTensorView.AsSpan"/>
    public Span<T> AsSpan<T>()
        where T : unmanaged
    {
        RequireHost(Device);
        RequireSpan<T>(Rows, RowLength, RowStride, Element);
        return MemoryMarshal.CreateSpan(ref Unsafe.As<byte, T>(ref _origin), (int)Length);
    }

    /// <inheritdoc cref="ReadOnlyTensorView.Row"/>
    public Span<T> Row<T>(nint row)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Rows);
        RequireHost(Device);
        RequireElement<T>(Element);
        return MemoryMarshal.CreateSpan(ref Unsafe.Add(ref Unsafe.As<byte, T>(ref _origin), row * RowStride), checked((int)RowLength));
    }

    /// <summary>Views a span.</summary>
    public static implicit operator TensorView(Span<BFloat16> span) => FromSpan(span);

    /// <summary>Views a span.</summary>
    public static implicit operator TensorView(Span<float> span) => FromSpan(span);

    /// <summary>Views an array.</summary>
    public static implicit operator TensorView(BFloat16[]? array) => array is null ? default : FromSpan<BFloat16>(array);

    /// <summary>Views an array.</summary>
    public static implicit operator TensorView(float[]? array) => array is null ? default : FromSpan<float>(array);

    /// <summary>Views a span.</summary>
    public static implicit operator TensorView(Span<Half> span) => FromSpan(span);

    /// <summary>Views an array.</summary>
    public static implicit operator TensorView(Half[]? array) => array is null ? default : FromSpan<Half>(array);

    /// <summary>Views a span.</summary>
    public static implicit operator TensorView(Span<Float8E4M3> span) => FromSpan(span);

    /// <summary>Views an array.</summary>
    public static implicit operator TensorView(Float8E4M3[]? array) => array is null ? default : FromSpan<Float8E4M3>(array);

    /// <summary>Views a span.</summary>
    public static implicit operator TensorView(Span<byte> span) => FromSpan(span);

    /// <summary>Views an array.</summary>
    public static implicit operator TensorView(byte[]? array) => array is null ? default : FromSpan<byte>(array);

    internal static nint RowsIn(nint length, nint rowLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(rowLength);
        if (length % rowLength != 0)
            throw new ArgumentException($"A span of {length} elements does not hold whole rows of {rowLength}.", nameof(length));
        return length / rowLength;
    }

    internal static void RequireHost(int device)
    {
        if (device >= 0)
            throw new InvalidOperationException($"The view is of memory of device {device}: copy it to the host first, or hand its Address to a kernel.");
    }

    internal static void RequireElement<T>(ElementType element)
        where T : unmanaged
    {
        if (ElementTypes.Of<T>() != element)
            throw new InvalidOperationException($"The view holds {element} elements, not {typeof(T).Name}.");
    }

    internal static void RequireSpan<T>(nint rows, nint rowLength, nint rowStride, ElementType element)
        where T : unmanaged
    {
        RequireElement<T>(element);
        if (rows > 1 && rowStride != rowLength)
            throw new InvalidOperationException($"Rows of {rowLength} elements lie {rowStride} apart: use Row<T>(row).");
        if (rows * rowLength > int.MaxValue)
            throw new InvalidOperationException($"{rows} x {rowLength} elements exceed a span's length: use Row<T>(row).");
    }
}

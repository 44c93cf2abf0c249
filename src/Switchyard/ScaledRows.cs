namespace Switchyard;

/// <summary>
/// Rows that are quantized or packed already, with their scales: FP8, MXFP8, NVFP4 or any other format. A dispatch moves the bytes of both
/// untouched; the format is the caller's. All ranks give the same row length, scales a row and element types in a call.
/// </summary>
/// <remarks>
/// Views of <see cref="Rows"/> and <see cref="Scales"/> may be flat where there are tokens; a rank without tokens gives them by rows
/// (<see cref="ReadOnlyTensorView.FromSpan{T}(ReadOnlySpan{T}, nint)"/>), so that it knows what it receives.
/// </remarks>
/// <param name="rows">Tokens × row length, of any element type but the integers.</param>
/// <param name="scales">Tokens × scales a row, of any element type; absent for rows without scales.</param>
public readonly ref struct ScaledRows(ReadOnlyTensorView rows, ReadOnlyTensorView scales = default)
{
    /// <summary>Tokens × row length.</summary>
    public ReadOnlyTensorView Rows { get; } = rows;

    /// <summary>Tokens × scales a row, or absent.</summary>
    public ReadOnlyTensorView Scales { get; } = scales;
}

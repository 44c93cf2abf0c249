using System.Runtime.InteropServices;

namespace Switchyard.Arena;

/// <summary>What a row is made of as it travels: elements, and scales beside them. Part of a call's signature.</summary>
/// <param name="RowBytes">Bytes of the elements.</param>
/// <param name="ScaleBytes">Bytes of the scales; 0 for none.</param>
/// <param name="Element">The element type, which only the caller looks into.</param>
/// <param name="ScaleElement">The scales' element type.</param>
/// <param name="ScaleLayout">How scales lie in a region; row-major where there are none.</param>
[StructLayout(LayoutKind.Sequential, Size = 12)]
internal readonly record struct RowFormat(int RowBytes, int ScaleBytes, ElementType Element, ElementType ScaleElement, ScaleLayout ScaleLayout)
{
    public RowFormat(int hidden, ElementType element)
        : this(hidden * element.SizeInBytes(), 0, element, ElementType.None, ScaleLayout.RowMajor)
    {
    }

    /// <summary>Rows that are quantized, with their scales.</summary>
    public RowFormat(int hidden, Float8Scaling scaling, ScaleLayout scaleLayout)
        : this(
            hidden * ElementType.Float8E4M3.SizeInBytes(),
            scaling == Float8Scaling.Packed ? Float8Scales.PackedPerRow(hidden) * sizeof(int) : Float8Scales.PerRow(hidden) * sizeof(float),
            ElementType.Float8E4M3,
            scaling == Float8Scaling.Packed ? ElementType.Int32 : ElementType.Single,
            scaleLayout)
    {
    }

    public int RowLength => RowBytes / Element.SizeInBytes();

    public int ScalesPerRow => ScaleBytes == 0 ? 0 : ScaleBytes / ScaleElement.SizeInBytes();

    /// <summary>Bytes from one column of scales to the next, for a region of so many rows.</summary>
    public long ScaleColumnBytes(long rows)
    {
        int scaleBytes = ScaleElement.SizeInBytes();
        return ScaleLayouts.ColumnStride(rows, scaleBytes) * scaleBytes;
    }

    /// <summary>Bytes that the scales of a region's rows take.</summary>
    public long ScalesBytes(long rows) =>
        ScaleLayout == ScaleLayout.RowMajor ? rows * ScaleBytes : ScalesPerRow * ScaleColumnBytes(rows);
}

using System.Runtime.InteropServices;

namespace Switchyard.Conformance;

/// <summary>A format of packed rows with scales. In workloads and the reference a row is its bytes, then those of its scales.</summary>
internal sealed record ScaledFormat(ElementType Element, int RowBytes, ElementType ScaleElement, int Scales)
{
    /// <summary>The longest row with its scales that <see cref="Draw"/> can give.</summary>
    public const int MostBytes = 1008 + (28 * 4) + 16;

    public int ScaleBytes => Scales == 0 ? 0 : Scales * ScaleElement.SizeInBytes();

    /// <param name="random">Decides.</param>
    /// <param name="granularity">Rows have a multiple of so many bytes.</param>
    public static ScaledFormat Draw(Random random, int granularity)
    {
        ElementType[] elements = [ElementType.Byte, ElementType.Float8E4M3], scaleElements = [ElementType.Byte, ElementType.Single, ElementType.Int32, ElementType.Half];
        int[] rowBytes = [1, 5, 56, 64, 100, 448, 1000], scales = [0, 1, 2, 7, 8, 28];
        return new ScaledFormat(
            elements[random.Next(elements.Length)],
            RankContext.RoundUp(rowBytes[random.Next(rowBytes.Length)], granularity),
            scaleElements[random.Next(scaleElements.Length)],
            scales[random.Next(scales.Length)]);
    }

    public byte[] RowsOf(byte[][] rows) => [.. rows.SelectMany(row => row.Take(RowBytes))];

    public byte[] ScalesOf(byte[][] rows) => [.. rows.SelectMany(row => row.Skip(RowBytes))];

    public ScaledRows Scaled(byte[] rows, byte[] scales) => new(View(rows, Element, RowBytes), Scales == 0 ? default : View(scales, ScaleElement, ScaleBytes));

    private static ReadOnlyTensorView View(ReadOnlySpan<byte> bytes, ElementType element, int rowBytes) => element switch
    {
        ElementType.Float8E4M3 => ReadOnlyTensorView.FromSpan(MemoryMarshal.Cast<byte, Float8E4M3>(bytes), rowBytes),
        ElementType.Half => ReadOnlyTensorView.FromSpan(MemoryMarshal.Cast<byte, Half>(bytes), rowBytes / 2),
        ElementType.Single => ReadOnlyTensorView.FromSpan(MemoryMarshal.Cast<byte, float>(bytes), rowBytes / 4),
        ElementType.Int32 => ReadOnlyTensorView.FromSpan(MemoryMarshal.Cast<byte, int>(bytes), rowBytes / 4),
        _ => ReadOnlyTensorView.FromSpan(bytes, rowBytes),
    };
}

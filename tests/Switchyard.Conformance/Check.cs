using System.Runtime.InteropServices;
using Switchyard.Reference;
using Xunit;

namespace Switchyard.Conformance;

/// <summary>Comparisons bit for bit. A NaN that was not expected fails like any other difference.</summary>
public static class Check
{
    public static void Equal<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual, string what)
        where T : unmanaged
    {
        Assert.True(expected.Length == actual.Length, $"{what}: expected {expected.Length} elements, got {actual.Length}");
        if (MemoryMarshal.AsBytes(expected).SequenceEqual(MemoryMarshal.AsBytes(actual))) return;
        for (int i = 0; i < expected.Length; i++)
        {
            bool isSame = MemoryMarshal.AsBytes(expected.Slice(i, 1)).SequenceEqual(MemoryMarshal.AsBytes(actual.Slice(i, 1)));
            Assert.True(isSame, $"{what}[{i}]: expected {expected[i]}, got {actual[i]}");
        }
    }

    /// <summary>Sums bit for bit; where a NaN is expected it may be any, as machines differ in the bits of one that they make.</summary>
    public static void Sums<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual, string what)
        where T : unmanaged
    {
        T[] same = actual.ToArray();
        for (int i = 0; i < Math.Min(expected.Length, same.Length); i++)
        {
            if (IsNaN(expected[i]) && IsNaN(same[i])) same[i] = expected[i];
        }
        Equal(expected, same, what);
    }

    private static bool IsNaN<T>(T value) => value switch
    {
        BFloat16 number => float.IsNaN(number),
        Half number => Half.IsNaN(number),
        float number => float.IsNaN(number),
        _ => false,
    };

    /// <summary>Holds what a rank received against the reference: rows, sources, indices, weights, counts.</summary>
    public static void Received<T>(List<ReferenceRow<T>> expected, TestResult actual, Shape shape, bool hasMetadata)
        where T : unmanaged
    {
        Assert.True(actual.Scales.IsAbsent);
        TensorView rows = actual.Rows;
        for (int row = 0; row < expected.Count; row++)
        {
            if (expected[row].Elements is { } elements) Equal(elements, (ReadOnlySpan<T>)rows.Row<T>(row), $"row {row}");
            else if (shape.ZeroPadding) Equal(new T[shape.Hidden], (ReadOnlySpan<T>)rows.Row<T>(row), $"padding row {row}");
        }
        MetadataAgrees(expected, actual, shape, hasMetadata);
    }

    /// <summary>As above, for packed rows and their scales.</summary>
    internal static void ReceivedScaled(List<ReferenceRow<byte>> expected, TestResult actual, Shape shape, ScaledFormat format, bool hasMetadata)
    {
        TensorView rows = actual.Rows, scales = actual.Scales;
        for (int row = 0; row < expected.Count; row++)
        {
            byte[]? bytes = expected[row].Elements ?? (shape.ZeroPadding ? new byte[format.RowBytes + format.ScaleBytes] : null);
            if (bytes is null) continue;
            Equal(bytes.AsSpan(0, format.RowBytes), RowBytes(rows, row), $"row {row}");
            Equal(bytes.AsSpan(format.RowBytes), ScalesOf(scales, row, shape.ScaleLayout), $"scales of row {row}");
        }
        MetadataAgrees(expected, actual, shape, hasMetadata);
    }

    private static void MetadataAgrees<T>(List<ReferenceRow<T>> expected, TestResult actual, Shape shape, bool hasMetadata)
    {
        int columns = shape.Layout == RowLayout.RankMajor ? shape.TopK : 1;
        if (!shape.FixedShape) Assert.Equal(expected.Count, actual.RowCount);
        if (!hasMetadata)
        {
            TestResult cached = actual;
            Assert.Throws<InvalidOperationException>(() => cached.Sources.Length);
        }
        ReadOnlySpan<RowSource> sources = hasMetadata ? actual.Sources : default;
        ReadOnlySpan<int> indices = hasMetadata ? actual.TopkIndices : default;
        ReadOnlySpan<float> weights = hasMetadata ? actual.TopkWeights : default;
        for (int row = 0; hasMetadata && row < actual.RowCount; row++)
        {
            bool isThere = row < expected.Count;
            Assert.Equal(isThere ? expected[row].Source : new RowSource(-1, -1), sources[row]);
            Equal(isThere ? expected[row].Indices : [.. Enumerable.Repeat(-1, columns)], indices.Slice(row * columns, columns), $"indices of row {row}");
            Equal(isThere ? expected[row].Weights : new float[columns], weights.Slice(row * columns, columns), $"weights of row {row}");
        }
        if (shape.FixedShape) FixedCountsAgree(expected, actual, shape, hasMetadata);
        else CountsAgree(expected, actual);
    }

    private static void FixedCountsAgree<T>(List<ReferenceRow<T>> expected, TestResult actual, Shape shape, bool hasMetadata)
    {
        TestResult result = actual;
        Assert.Throws<InvalidOperationException>(() => result.TokensPerExpert.Length);
        if (!hasMetadata)
        {
            Assert.Throws<InvalidOperationException>(() => result.Counts.Length);
            return;
        }
        ReadOnlySpan<int> counts = actual.Counts;
        int experts = (counts.Length - 2) / 2;
        Assert.Equal(RankContext.WorstRows(shape) + ((shape.Alignment - 1) * experts), actual.RowCount);
        Assert.Equal(expected.Count, counts[0]);
        for (int expert = 0; expert < experts; expert++)
        {
            Assert.Equal(expected.Sum(row => row.Indices.Count(index => index == expert)), counts[1 + expert]);
            int first = expected.FindIndex(row => row.Indices[0] == expert);
            if (shape.Layout == RowLayout.ExpertMajor && first >= 0) Assert.Equal(first, counts[1 + experts + expert]);
        }
        Assert.Equal(shape.Layout == RowLayout.ExpertMajor ? expected.Count : 0, counts[^1]);
    }

    private static ReadOnlySpan<byte> RowBytes(TensorView rows, int row) => rows.Element switch
    {
        ElementType.Float8E4M3 => MemoryMarshal.AsBytes(rows.Row<Float8E4M3>(row)),
        ElementType.Half => MemoryMarshal.AsBytes(rows.Row<Half>(row)),
        ElementType.Single => MemoryMarshal.AsBytes(rows.Row<float>(row)),
        ElementType.Int32 => MemoryMarshal.AsBytes(rows.Row<int>(row)),
        _ => rows.Row<byte>(row),
    };

    private static byte[] ScalesOf(TensorView scales, int row, ScaleLayout layout)
    {
        if (scales.IsAbsent) return [];
        if (layout == ScaleLayout.RowMajor) return RowBytes(scales, row).ToArray();
        int size = scales.Element.SizeInBytes();
        Assert.Equal(0, scales.RowStride * size % 16);
        var bytes = new byte[scales.Rows * size];
        for (int scale = 0; scale < scales.Rows; scale++) RowBytes(scales, scale).Slice(row * size, size).CopyTo(bytes.AsSpan(scale * size));
        return bytes;
    }

    private static void CountsAgree<T>(List<ReferenceRow<T>> expected, TestResult actual)
    {
        TestResult result = actual;
        Assert.Throws<InvalidOperationException>(() => result.Counts.Length);
        for (int expert = 0; expert < actual.TokensPerExpert.Length; expert++)
            Assert.Equal(expected.Sum(row => row.Indices.Count(index => index == expert)), actual.TokensPerExpert[expert]);
        for (int rank = 0; rank < actual.RowsPerSource.Length; rank++)
            Assert.Equal(expected.Count(row => row.Source.Rank == rank), actual.RowsPerSource[rank]);
        if (actual.Layout != RowLayout.ExpertMajor) return;
        for (int expert = 0; expert < actual.TokensPerExpert.Length; expert++)
        {
            int first = expected.FindIndex(row => row.Indices[0] == expert);
            if (first >= 0) Assert.Equal(first, actual.ExpertOffsets[expert]);
        }
        Assert.Equal(expected.Count, actual.ExpertOffsets[^1]);
    }
}

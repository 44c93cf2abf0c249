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

    /// <summary>Holds what a rank received against the reference: rows, sources, indices, weights, counts.</summary>
    public static void Received<T>(List<ReferenceRow<T>> expected, in Dispatched actual, bool hasMetadata)
        where T : unmanaged
    {
        Assert.Equal(expected.Count, actual.RowCount);
        int columns = expected.Count == 0 ? 0 : expected[0].Indices.Length;
        for (int row = 0; row < expected.Count; row++)
        {
            if (expected[row].Elements is { } elements) Equal(elements, (ReadOnlySpan<T>)actual.Rows.Row<T>(row), $"row {row}");
            if (!hasMetadata) continue;
            Assert.Equal(expected[row].Source, actual.Sources[row]);
            Equal(expected[row].Indices, actual.TopkIndices.Slice(row * columns, columns), $"indices of row {row}");
            Equal(expected[row].Weights, (ReadOnlySpan<float>)actual.TopkWeights.Slice(row * columns, columns), $"weights of row {row}");
        }
        if (!hasMetadata)
        {
            Dispatched cached = actual;
            Assert.Throws<InvalidOperationException>(() => cached.Sources.Length);
        }
        CountsAgree(expected, actual);
    }

    private static void CountsAgree<T>(List<ReferenceRow<T>> expected, in Dispatched actual)
    {
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

using System.Runtime.CompilerServices;
using Switchyard.Arena;
using Switchyard.Transports;

namespace Switchyard;

/// <summary>Checks of tensor arguments: each error names the argument, its value and what it had to be.</summary>
internal static class Arguments
{
    /// <summary>The tokens in <paramref name="x"/>, flat or by rows.</summary>
    public static int RequireTokens(ReadOnlyTensorView x, ExpertBufferOptions options)
    {
        RequireElement(x, nameof(x), options.Element);
        nint tokens = x.Rows;
        if (IsFlat(x))
        {
            if (x.RowLength % options.Hidden != 0)
                throw new ArgumentException($"x has {x.RowLength} elements, not a multiple of ExpertBufferOptions.Hidden = {options.Hidden}.", nameof(x));
            tokens = x.RowLength / options.Hidden;
        }
        else if (x.RowLength != options.Hidden)
        {
            throw new ArgumentException($"x has rows of {x.RowLength} elements; ExpertBufferOptions.Hidden is {options.Hidden}.", nameof(x));
        }
        if (tokens > options.MaxTokensPerRank)
            throw new ArgumentException($"x has {tokens} tokens; ExpertBufferOptions.MaxTokensPerRank is {options.MaxTokensPerRank}.", nameof(x));
        return (int)tokens;
    }

    /// <summary>The tokens that so many choices are of.</summary>
    public static int TokensIn(ReadOnlyTensorView topkIndices, ExpertBufferOptions options)
    {
        nint tokens = topkIndices.Length / options.TopK;
        if (topkIndices.Length % options.TopK != 0)
            throw new ArgumentException($"topkIndices has {topkIndices.Length} elements, not a multiple of ExpertBufferOptions.TopK = {options.TopK}.", nameof(topkIndices));
        if (tokens > options.MaxTokensPerRank)
            throw new ArgumentException($"topkIndices is for {tokens} tokens; ExpertBufferOptions.MaxTokensPerRank is {options.MaxTokensPerRank}.", nameof(topkIndices));
        return (int)tokens;
    }

    /// <summary>Requires a row, and scales if any, for each token; returns what a row is made of.</summary>
    public static RowFormat RequireScaledRows(ScaledRows x, int tokens, ScaleLayout scaleLayout)
    {
        if (x.Rows.Element is ElementType.None or ElementType.Int32 or ElementType.Int64)
            throw new ArgumentException($"ScaledRows.Rows holds {Describe(x.Rows.Element)}; it must hold Byte, Float8E4M3, BFloat16, Half or Single.", nameof(x));
        int rowBytes = RowBytesOf(x.Rows, tokens, "Rows");
        int scaleBytes = x.Scales.IsAbsent ? 0 : RowBytesOf(x.Scales, tokens, "Scales");
        // Without scales their layout means nothing, and must not make calls differ.
        return new RowFormat(rowBytes, scaleBytes, x.Rows.Element, x.Scales.Element, scaleBytes == 0 ? ScaleLayout.RowMajor : scaleLayout);
    }

    public static void RequireScaling(Float8Scaling scaling, string name, string option)
    {
        if (scaling > Float8Scaling.Packed)
            throw new ArgumentOutOfRangeException(name, scaling, $"{option} must be None, Single, PowerOfTwo or Packed.");
    }

    private static int RowBytesOf(ReadOnlyTensorView tensor, int tokens, string name)
    {
        nint rowLength = tensor.RowLength;
        if (tensor.Rows != tokens)
        {
            if (!IsFlat(tensor) || tokens == 0 || tensor.RowLength % tokens != 0)
            {
                string hint = tokens == 0 ? " With 0 tokens give it by rows, so that the length of a row is known: ReadOnlyTensorView.FromSpan(span, rowLength)." : "";
                throw new ArgumentException($"ScaledRows.{name} is {tensor.Rows} x {tensor.RowLength}; topkIndices is for {tokens} tokens.{hint}", "x");
            }
            rowLength /= tokens;
        }
        nint bytes = rowLength * tensor.Element.SizeInBytes();
        if (bytes < 1 || bytes > Limits.MaxRowBytes)
            throw new ArgumentException($"ScaledRows.{name} has rows of {bytes} bytes; they must have 1 to {Limits.MaxRowBytes} (Limits.MaxRowBytes).", "x");
        return (int)bytes;
    }

    /// <summary>Accepts an absent tensor.</summary>
    public static void RequireBias(ReadOnlyTensorView bias, string name, int tokens, ExpertBufferOptions options)
    {
        if (!bias.IsAbsent) RequireRows(bias, name, tokens, options.Hidden, options.Element, "tokens of the handle");
    }

    /// <summary>A tensor's rows by address; nothing if it is absent.</summary>
    public static unsafe RowMemory Memory(byte* address, ReadOnlyTensorView tensor, int rowLength) =>
        tensor.IsAbsent ? default : new((nint)address, StrideBytes(tensor, rowLength));

    /// <summary>Requires rows × hidden elements, flat or by rows.</summary>
    public static void RequireRows(ReadOnlyTensorView tensor, string name, long rows, int rowLength, ElementType element, string rowsOf)
    {
        RequireElement(tensor, name, element);
        bool fits = IsFlat(tensor) ? tensor.RowLength == rows * rowLength : tensor.Rows == rows && (rows == 0 || tensor.RowLength == rowLength);
        if (fits) return;
        string given = IsFlat(tensor) ? $"has {tensor.RowLength} elements" : $"is {tensor.Rows} x {tensor.RowLength}";
        throw new ArgumentException($"{name} {given}; it must hold {rows} rows ({rowsOf}) x {rowLength} elements.", name);
    }

    public static void RequireChoices(ReadOnlyTensorView indices, int tokens, int topK)
    {
        if (indices.Element is not (ElementType.Int32 or ElementType.Int64))
            throw new ArgumentException($"topkIndices holds {Describe(indices.Element)}; it must hold Int32 or Int64.", "topkIndices");
        RequireContiguous(indices, "topkIndices");
        RequireColumns(indices, "topkIndices", topK);
        if (indices.Length != (nint)tokens * topK)
            throw new ArgumentException($"topkIndices has {indices.Length} elements; {tokens} tokens x ExpertBufferOptions.TopK = {topK} make {(long)tokens * topK}.", "topkIndices");
    }

    /// <summary>Accepts an absent tensor.</summary>
    public static void RequireWeights(ReadOnlyTensorView weights, string name, long rows, int columns)
    {
        if (weights.IsAbsent) return;
        RequireElement(weights, name, ElementType.Single);
        RequireContiguous(weights, name);
        RequireColumns(weights, name, columns);
        if (weights.Length != rows * columns)
            throw new ArgumentException($"{name} has {weights.Length} elements; {rows} x {columns} make {rows * columns}.", name);
    }

    public static void CopyChoices(ReadOnlyTensorView indices, Span<int> choices, ExpertBufferOptions options)
    {
        if (choices.IsEmpty) return;
        if (indices.Element == ElementType.Int32)
        {
            Flat<int>(indices, choices.Length).CopyTo(choices);
            return;
        }
        ReadOnlySpan<long> wide = Flat<long>(indices, choices.Length);
        for (int i = 0; i < choices.Length; i++)
        {
            long expert = wide[i];
            if (expert < -1 || expert >= options.Experts)
                throw new ArgumentException($"Token {i / options.TopK} chooses expert {expert}: topkIndices must be -1 or 0 to {options.Experts - 1} (ExpertBufferOptions.Experts).", "topkIndices");
            choices[i] = (int)expert;
        }
    }

    /// <summary>Bytes from row to row; a flat tensor's rows are adjacent.</summary>
    public static nint StrideBytes(ReadOnlyTensorView tensor, int rowLength) =>
        (IsFlat(tensor) ? rowLength : tensor.RowStride) * tensor.Element.SizeInBytes();

    public static bool IsContiguous(ReadOnlyTensorView tensor) => tensor.Rows <= 1 || tensor.RowStride == tensor.RowLength;

    private static bool IsFlat(ReadOnlyTensorView tensor) => tensor.Rows == 1;

    private static void RequireElement(ReadOnlyTensorView tensor, string name, ElementType element)
    {
        if (tensor.Element != element)
            throw new ArgumentException($"{name} holds {Describe(tensor.Element)}; it must hold {element}.", name);
    }

    private static void RequireContiguous(ReadOnlyTensorView tensor, string name)
    {
        if (!IsContiguous(tensor))
            throw new ArgumentException($"{name} has a row stride of {tensor.RowStride} for rows of {tensor.RowLength}: its rows must be adjacent.", name);
    }

    /// <summary>What is not flat has a row a token.</summary>
    private static void RequireColumns(ReadOnlyTensorView tensor, string name, int columns)
    {
        if (tensor.Rows > 1 && tensor.RowLength != columns)
            throw new ArgumentException($"{name} has rows of {tensor.RowLength} elements; it must have {columns}.", name);
    }

    private static string Describe(ElementType element) => element == ElementType.None ? "nothing" : element.ToString();

    private static ReadOnlySpan<T> Flat<T>(ReadOnlyTensorView tensor, int length)
        where T : unmanaged =>
        System.Runtime.InteropServices.MemoryMarshal.CreateReadOnlySpan(ref Unsafe.As<byte, T>(ref Unsafe.AsRef(in tensor.Origin)), length);
}

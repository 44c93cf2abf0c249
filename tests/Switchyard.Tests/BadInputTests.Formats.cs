using System.Runtime.InteropServices;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Rows with scales, weights and biases, and what results of other shapes do not have.</summary>
public sealed partial class BadInputTests
{
    private static readonly DispatchOptions _expertMajor = new() { Layout = RowLayout.ExpertMajor };

    [Fact]
    public void Wrong_scaled_rows_are_refused()
    {
        int[] twoTokens = [0, 1, 2, 3];
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[7]), twoTokens), "ScaledRows.Rows", "1 x 7", "2 tokens");
        Refused(() => _buffer.Dispatch(new ScaledRows(ByRows(new byte[12], 4)), twoTokens), "ScaledRows.Rows", "3 x 4", "2 tokens");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8], new float[3]), twoTokens), "ScaledRows.Scales", "1 x 3", "2 tokens");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8], ByRows(new byte[6], 2)), twoTokens), "ScaledRows.Scales", "3 x 2", "2 tokens");
        Refused(() => _buffer.Dispatch(new ScaledRows(new int[8]), twoTokens), "ScaledRows.Rows", "Int32", "Byte");
        Refused(() => _buffer.Dispatch(new ScaledRows(new long[8]), twoTokens), "ScaledRows.Rows", "Int64", "Byte");
        Refused(() => _buffer.Dispatch(default(ScaledRows), twoTokens), "ScaledRows.Rows", "nothing");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8]), new int[3]), "topkIndices", "3 elements", "TopK = 2");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8]), new int[8]), "topkIndices", "4 tokens", "MaxTokensPerRank is 3");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8]), default(ReadOnlyTensorView)), "ScaledRows.Rows", "0 tokens");
        WorksStill();
    }

    [Fact]
    public void Rows_of_unknown_and_of_impossible_length_are_refused()
    {
        int[] none = [], one = [0, 1];
        Refused(() => _buffer.Dispatch(new ScaledRows(Array.Empty<byte>()), none), "ScaledRows.Rows", "0 tokens", "by rows");
        Refused(() => _buffer.Dispatch(new ScaledRows(ByRows(Array.Empty<byte>(), 8), Array.Empty<float>()), none), "ScaledRows.Scales", "0 tokens", "by rows");
        Refused(() => _buffer.Dispatch(new ScaledRows(Array.Empty<byte>()), one), "ScaledRows.Rows", "0 bytes", "MaxRowBytes");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8], Array.Empty<float>()), one), "ScaledRows.Scales", "0 bytes", "MaxRowBytes");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[Limits.MaxRowBytes + 1]), one), "ScaledRows.Rows", "4194305 bytes", "4194304");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8], new float[(Limits.MaxRowBytes / 4) + 1]), one), "ScaledRows.Scales", "4194308 bytes", "4194304");
        using (_buffer.Dispatch(new ScaledRows(ByRows(Array.Empty<byte>(), 8), ByRows(Array.Empty<float>(), 2)), none)) WorksStill();
    }

    [Fact]
    public void Scaled_rows_of_another_number_than_the_handles_are_refused()
    {
        using Dispatched d = _buffer.Dispatch(new ScaledRows(new byte[8]), new[] { 0, 1, 2, 3 });
        DispatchHandle handle = d.Handle;
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[7]), handle), "ScaledRows.Rows", "1 x 7", "2 tokens");
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8], new byte[3]), handle), "ScaledRows.Scales", "1 x 3", "2 tokens");
        WorksStill();
    }

    [Fact]
    public void Rows_that_cannot_be_quantized_on_the_way_are_refused()
    {
        var quantize = new DispatchOptions { Quantize = Float8Scaling.Single };
        Refused(() => _buffer.Dispatch(new ScaledRows(new byte[8]), new[] { 0, 1, 2, 3 }, default, quantize), "DispatchOptions.Quantize is Single", "ScaledRows");
        Refused(() => _buffer.Dispatch(new Float8E4M3[8], new[] { 0, 1, 2, 3 }, default, quantize), "x", "Float8E4M3", "Single");
        using Dispatched d = _buffer.Dispatch(new float[8], new[] { 0, 1, 2, 3 }, default, quantize);
        DispatchHandle handle = d.Handle;
        Refused(() => _buffer.Dispatch(new float[8], handle, quantize: (Float8Scaling)9), "quantize", "9", "Packed");
        Refused(() => _buffer.Dispatch(new float[4], handle, quantize: Float8Scaling.Packed), "x", "2 rows");
        WorksStill();
    }

    [Fact]
    public void Wrong_biases_are_refused()
    {
        using Dispatched d = _buffer.Dispatch(new float[8], new[] { 0, 1, 2, -1 });
        DispatchHandle handle = d.Handle;
        float[] output = new float[8], results = new float[8];
        Refused(() => _buffer.Combine(results, handle, output, new() { Bias = new float[4] }), "Bias", "4 elements", "2 rows");
        Refused(() => _buffer.Combine(results, handle, output, new() { Bias = ByRows(new float[8], 2) }), "Bias", "4 x 2", "4 elements");
        Refused(() => _buffer.Combine(results, handle, output, new() { Bias = new BFloat16[8] }), "Bias", "BFloat16", "Single");
        Refused(() => _buffer.Combine(results, handle, output, new() { Bias = new float[8], SecondBias = new float[12] }), "SecondBias", "12 elements", "2 rows");
        Refused(() => _buffer.Combine(results, handle, output, new() { SecondBias = new int[8] }), "SecondBias", "Int32", "Single");
        WorksStill();
    }

    [Fact]
    public void Wrong_weights_of_choices_are_refused()
    {
        float[] x = new float[8], output = new float[8];
        int[] choices = [0, 1, 2, -1];
        using Dispatched rankMajor = _buffer.Dispatch(x, choices);
        using Dispatched expertMajor = _buffer.Dispatch(x, choices, default, _expertMajor);
        using Dispatched preReduced = _buffer.Dispatch(x, choices, default, _expertMajor with { PreReduce = true });
        DispatchHandle byRank = rankMajor.Handle, byExpert = expertMajor.Handle, summed = preReduced.Handle;
        Refused(() => _buffer.Combine(new float[8], byRank, output, new() { ChoiceWeights = new float[4] }), "ChoiceWeights", "rank-major");
        Refused(() => _buffer.Combine(new float[12], summed, output, new() { ChoiceWeights = new float[4] }), "ChoiceWeights", "PreReduce");
        Refused(() => _buffer.Combine(new float[12], byExpert, output, new() { ChoiceWeights = new float[3] }), "ChoiceWeights", "3 elements", "2 x 2");
        Refused(() => _buffer.Combine(new float[12], byExpert, output, new() { ChoiceWeights = ByRows(new float[4], 1) }), "ChoiceWeights", "rows of 1", "2");
        Refused(() => _buffer.Combine(new float[12], byExpert, output, new() { ChoiceWeights = new BFloat16[4] }), "ChoiceWeights", "BFloat16", "Single");
        WorksStill();
    }

    [Fact]
    public unsafe void Weights_to_bring_back_go_to_memory_of_the_callers_own()
    {
        using Dispatched d = _buffer.Dispatch(new float[8], new[] { 0, 1, 2, -1 });
        DispatchHandle handle = d.Handle;
        nint weights = (nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(d.TopkWeights));
        float[] output = new float[8], results = new float[8];
        Refused(() => _buffer.Combine(results, handle, output, new() { ReducedWeights = new float[4] }), "RowWeights", "ReducedWeights", "together");
        Refused(
            () => _buffer.Combine(results, handle, output, new() { RowWeights = new float[4], ReducedWeights = TensorView.FromPointer(weights, 1, 4, 4, ElementType.Single) }),
            "ReducedWeights", "arena of rank 0");
        WorksStill();
    }

    [Fact]
    public void What_a_result_does_not_have_is_refused()
    {
        using (Dispatched d = _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, _expertMajor))
        {
            Assert.True(d.Scales.IsAbsent);
            Assert.Throws<InvalidOperationException>(() => _ = d.Counts);
        }
        using (Dispatched d = _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, _expertMajor with { FixedShape = true }))
        {
            Assert.Throws<InvalidOperationException>(() => _ = d.TokensPerExpert);
            Assert.Throws<InvalidOperationException>(() => _ = d.ExpertOffsets);
            Assert.Throws<InvalidOperationException>(() => _ = d.RowsPerSource);
            using Dispatched again = _buffer.Dispatch(new float[4], d.Handle);
            Assert.Throws<InvalidOperationException>(() => _ = again.Counts);
            Assert.Throws<InvalidOperationException>(() => _ = again.Sources);
        }
        WorksStill();
    }

    private static ReadOnlyTensorView ByRows<T>(T[] elements, int rowLength)
        where T : unmanaged =>
        ReadOnlyTensorView.FromSpan<T>(elements, rowLength);
}

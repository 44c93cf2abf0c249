using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Cli.Bench;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Cli.Tests.Bench;

/// <summary>The bench's check passes what a real exchange gives, and nothing that was changed afterwards.</summary>
public sealed class OracleTests
{
    private static readonly Shape _shape = new()
    {
        Ranks = 1,
        Processes = false,
        Tokens = 6,
        Hidden = 19,
        TopK = 3,
        Experts = 8,
        Element = "bf16",
        Layout = RowLayout.ExpertMajor,
        Routing = "uniform",
    };

    private delegate void Change(in Dispatched received, TensorView output);

    [Theory]
    [InlineData("bf16", RowLayout.RankMajor)]
    [InlineData("bf16", RowLayout.ExpertMajor)]
    [InlineData("single", RowLayout.RankMajor)]
    [InlineData("single", RowLayout.ExpertMajor)]
    [InlineData("bf16-fp8", RowLayout.RankMajor)]
    [InlineData("bf16-fp8", RowLayout.ExpertMajor)]
    public void A_right_exchange_passes(string element, RowLayout layout) =>
        Assert.Equal((null, null), Check(_shape with { Element = element, Layout = layout }));

    [Fact]
    public void One_bit_of_one_row_fails() => FailsReceived("row 4, of ", (in received, _) => RowElement.RowOf(received.Rows, 4)[^1] ^= 1);

    [Fact]
    public void Poison_that_is_left_fails() => FailsReceived("differs in byte 0", (in received, _) => Poison.Fill(received.Rows));

    [Fact]
    public void Exchanged_rows_fail() => FailsReceived("differs in byte", (in received, _) =>
    {
        byte[] first = RowElement.RowOf(received.Rows, 0).ToArray();
        RowElement.RowOf(received.Rows, received.RowCount - 1).CopyTo(RowElement.RowOf(received.Rows, 0));
        first.CopyTo(RowElement.RowOf(received.Rows, received.RowCount - 1));
    });

    [Fact]
    public void A_wrong_source_fails() =>
        FailsReceived("row 2 comes from", (in received, _) => Writable(received.Sources)[2] = new RowSource(0, 100));

    [Fact]
    public void A_wrong_index_fails() => FailsReceived("row 3 has index", (in received, _) => Writable(received.TopkIndices)[3]++);

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(0)]
    public void A_wrong_weight_fails(float weight) =>
        FailsReceived("row 5 has weight", (in received, _) => received.TopkWeights[5] = weight);

    [Fact]
    public void A_wrong_count_fails()
    {
        FailsReceived("rows of rank 0 counted", (in received, _) => Writable(received.RowsPerSource)[0]++);
        FailsReceived("per expert", (in received, _) => Writable(received.TokensPerExpert)[7]--);
    }

    [Theory]
    [InlineData("fp8")]
    [InlineData("bf16-fp8")]
    public void A_wrong_scale_fails(string element)
    {
        Shape packed = _shape with { Element = element };
        Assert.Equal((null, null), Check(packed));
        string? difference = Check(packed, (in received, _) => RowElement.RowOf(received.Scales, 3)[1] ^= 4).Received;
        Assert.Contains("the scales of row 3 differ in byte 1", difference, StringComparison.Ordinal);
    }

    [Fact]
    public void Another_exchange_fails()
    {
        string? difference = Check(_shape, judgedAs: _shape with { Layout = RowLayout.RankMajor }).Received;
        Assert.Contains("rows instead of", difference, StringComparison.Ordinal);
    }

    [Fact]
    public void One_bit_of_one_sum_fails() =>
        FailsCombined("the sum of token 5 differs in byte 75", (in _, output) => RowElement.RowOf(output, 5)[75] ^= 1);

    [Fact]
    public void Sums_in_another_order_fail() => FailsCombined("the sum of token", (in received, output) =>
    {
        for (int token = 0; token < _shape.Tokens; token++)
        {
            Span<float> sum = MemoryMarshal.Cast<byte, float>(RowElement.RowOf(output, token));
            sum.Clear();
            foreach (int row in RowsOf(received, token).OrderDescending())
            {
                ReadOnlySpan<float> values = MemoryMarshal.Cast<byte, float>(RowElement.RowOf(received.Rows, row));
                for (int i = 0; i < sum.Length; i++) sum[i] += values[i];
            }
        }
    });

    private static void FailsReceived(string expected, Change afterDispatch) =>
        Assert.Contains(expected, Check(_shape, afterDispatch).Received, StringComparison.Ordinal);

    private static void FailsCombined(string expected, Change afterCombine) =>
        Assert.Contains(expected, Check(_shape with { Element = "single" }, afterCombine: afterCombine).Combined, StringComparison.Ordinal);

    /// <summary>Exchanges within one rank, changes the outcome, and returns what the oracle says of it.</summary>
    private static (string? Received, string? Combined) Check(
        Shape shape, Change? afterDispatch = null, Change? afterCombine = null, Shape? judgedAs = null)
    {
        var workload = new Workload(shape);
        var oracle = new Oracle(new Workload(judgedAs ?? shape), rank: 0);
        using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        using ExpertBuffer buffer = BufferOf(group, workload);
        using var x = new NativeRows(shape.Tokens, shape.Hidden, workload.Element.Type);
        using var scales = new NativeRows(shape.Tokens, Math.Max(1, workload.GivenScales), ElementType.Single);
        using var output = new NativeRows(shape.Tokens, shape.Hidden, workload.Element.Result.Type);
        float[] weights = new float[shape.Tokens * shape.TopK];
        for (int token = 0; token < shape.Tokens; token++)
        {
            workload.DrawRow(0, token, RowElement.RowOf(x.View, token));
            Workload.DrawScales(0, token, RowElement.RowOf(scales.View, token));
            Workload.DrawWeights(0, token, weights.AsSpan(token * shape.TopK, shape.TopK));
        }

        var options = new DispatchOptions { Layout = shape.Layout, Quantize = workload.Element.Quantize };
        using Dispatched received = workload.GivenScales == 0
            ? buffer.Dispatch(x.View, workload.ChoicesOf(0), weights, options)
            : buffer.Dispatch(new ScaledRows(x.View, scales.View), workload.ChoicesOf(0), weights, options);
        afterDispatch?.Invoke(received, output.View);
        string? difference = oracle.CheckReceived(Received.Of(received));
        if (difference is not null) return (difference, null);

        TensorView results = workload.Scales == 0 ? received.Rows : received.ResultRows;
        oracle.ApplyExperts(Received.Of(received), results);
        buffer.Combine(results, received.Handle, output.View);
        afterCombine?.Invoke(received, output.View);
        return (null, oracle.CheckCombined(output.View));
    }

    private static ExpertBuffer BufferOf(ExpertGroup group, Workload workload) => ExpertBuffer.CreateAsync(group, new ExpertBufferOptions
    {
        Backend = CpuBackend.Instance,
        Experts = workload.Shape.Experts,
        TopK = workload.Shape.TopK,
        Hidden = workload.Shape.Hidden,
        MaxTokensPerRank = workload.Shape.Tokens,
        Element = workload.Element.Result.Type,
    }).GetAwaiter().GetResult();

    private static List<int> RowsOf(in Dispatched received, int token)
    {
        var rows = new List<int>();
        for (int row = 0; row < received.RowCount; row++)
        {
            if (received.Sources[row].Token == token) rows.Add(row);
        }
        return rows;
    }

    private static Span<T> Writable<T>(ReadOnlySpan<T> span) =>
        MemoryMarshal.CreateSpan(ref Unsafe.AsRef(in MemoryMarshal.GetReference(span)), span.Length);
}

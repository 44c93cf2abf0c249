using Switchyard;
using Switchyard.Cpu;
using Switchyard.Cpu.Quantization;

// Two ranks send their tokens as FP8, with a scale for each 128 channels: half the bytes of BFloat16. The experts read them as numbers again,
// add their own number to each, and answer in BFloat16; combine weights the answers, adds a bias, and rounds once.
//   dotnet run -c Release --project samples/02-quantized-dispatch
const int Experts = 4, TopK = 2, Hidden = 256, Tokens = 3;

// What the buffer will take, told before anything is allocated.
Console.WriteLine(Options().EstimateMemory(ranks: 2));

Thread[] ranks = [.. ExpertGroup.CreateLocal(2).Select(group => new Thread(() => RunRank(group)))];
foreach (Thread rank in ranks) rank.Start();
foreach (Thread rank in ranks) rank.Join();

static ExpertBufferOptions Options() => new()
{
    Backend = CpuBackend.Instance,
    Experts = Experts,
    TopK = TopK,
    Hidden = Hidden,
    MaxTokensPerRank = Tokens,
    Element = ElementType.BFloat16,
};

static void RunRank(ExpertGroup group)
{
    using ExpertBuffer buffer = ExpertBuffer.CreateAsync(group, Options()).GetAwaiter().GetResult();

    BFloat16[] x = [.. Enumerable.Range(0, Tokens * Hidden).Select(i => (BFloat16)(group.Rank + (i / Hidden) + (i % Hidden / 1000f)))];
    int[] choices = [0, 3, 1, 2, 3, -1];
    float[] weights = [0.75f, 0.25f, 0.5f, 0.5f, 1, 0];
    using Dispatched d = buffer.Dispatch(x, choices, weights, new() { Layout = RowLayout.ExpertMajor, Quantize = Float8Scaling.PowerOfTwo });

    Float8Quantizer.Dequantize<BFloat16>(
        d.Rows.AsSpan<Float8E4M3>(), Hidden, d.Scales.AsSpan<float>(), d.ResultRows.AsSpan<BFloat16>(), ScaleLayout.RowMajor);
    for (int local = 0; local < d.TokensPerExpert.Length; local++)
    {
        for (int row = d.ExpertOffsets[local]; row < d.ExpertOffsets[local] + d.TokensPerExpert[local]; row++)
        {
            foreach (ref BFloat16 value in d.ResultRows.Row<BFloat16>(row)) value = (BFloat16)(value + buffer.LocalExperts[local]);
        }
    }

    BFloat16[] output = new BFloat16[x.Length], bias = new BFloat16[x.Length];
    Array.Fill(bias, (BFloat16)10f);
    buffer.Combine(d.ResultRows, d.Handle, output, new() { ChoiceWeights = weights, Bias = bias });
    for (int token = 0; token < Tokens; token++)
        Console.WriteLine($"rank {group.Rank}, token {token}: {x[token * Hidden]} became {output[token * Hidden]}");
}

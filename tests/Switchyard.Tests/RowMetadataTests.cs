using CsCheck;
using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

/// <summary>What rows tell of their choices, for any top-k: some fill several vectors, some leave a rest.</summary>
public sealed class RowMetadataTests
{
    private const int Experts = 64;

    [Fact]
    public void A_row_tells_its_choices_here_with_their_weights() =>
        Gen.Select(Gen.Int[1, Limits.MaxTopK], Gen.Bool, Gen.Bool, Gen.Int[0, 1000000]).Sample((topK, hasWeights, isExpertMajor, seed) =>
        {
            var random = new Random(seed);
            int[] experts = [.. Enumerable.Range(0, Experts)];
            random.Shuffle(experts);
            int[] chosen = [.. experts[..topK].Select(expert => random.Next(3) == 0 ? -1 : expert)];
            float[] weights = [.. chosen.Select(_ => random.NextSingle() + 1)];
            using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
            using ExpertBuffer buffer = ExpertBuffer.CreateAsync(group, new()
            {
                Backend = CpuBackend.Instance,
                Experts = Experts,
                TopK = topK,
                Hidden = 1,
                MaxTokensPerRank = 1,
                Element = ElementType.Single,
                WorkerThreads = 1,
            }).GetAwaiter().GetResult();
            var options = new DispatchOptions { Layout = isExpertMajor ? RowLayout.ExpertMajor : RowLayout.RankMajor };
            using Dispatched d = buffer.Dispatch(new float[1], chosen, hasWeights ? weights : null, options);

            IEnumerable<(int Expert, float Weight)> told = chosen.Select((expert, k) => (expert, expert < 0 ? 0 : hasWeights ? weights[k] : 1));
            if (isExpertMajor) told = told.Where(choice => choice.Expert >= 0).OrderBy(choice => choice.Expert);
            else if (d.RowCount == 0) told = [];
            Assert.Equal(told, d.TopkIndices.ToArray().Zip(d.TopkWeights.ToArray()));
        }, iter: 200, threads: 1);
}

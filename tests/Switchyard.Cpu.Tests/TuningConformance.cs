using Switchyard.Conformance;
using Switchyard.Cpu.Vectors;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>
/// Exchanges with vectors of every width, also those that this processor lacks: once with every row streamed and a piece that any thread may
/// take, once with nothing streamed and nothing shared.
/// </summary>
public sealed class TuningConformance
{
    private const int Ranks = 3;

    public static TheoryData<string, int, bool> Cases()
    {
        var cases = new TheoryData<string, int, bool>();
        foreach (string scenario in Scenario.All.Keys.Where(name => name.StartsWith("exchange-", StringComparison.Ordinal)))
        {
            foreach (VectorWidth width in Enum.GetValues<VectorWidth>())
            {
                cases.Add(scenario, (int)width, true);
                cases.Add(scenario, (int)width, false);
            }
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Agrees_with_the_reference_however_rows_are_moved(string scenario, int width, bool streamsAndShares)
    {
        int seed = Random.Shared.Next(1 << 20);
        CpuTuning tuning = streamsAndShares
            ? new() { Width = (VectorWidth)width, StreamingBytes = 0, PieceBytes = 1 }
            : new() { Width = (VectorWidth)width, StreamingBytes = long.MaxValue, PieceBytes = 1L << 40 };
        try
        {
            await RankThreads.RunAsync(ExpertGroup.CreateLocal(Ranks), _ => new CpuBackend(tuning), Scenario.All[scenario], seed);
        }
        catch (Exception failure)
        {
            throw new InvalidOperationException($"{scenario} failed with seed {seed}: {failure.Message}", failure);
        }
    }
}

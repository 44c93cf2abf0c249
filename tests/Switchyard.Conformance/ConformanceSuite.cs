using Xunit;

namespace Switchyard.Conformance;

/// <summary>What every backend and every way of running ranks must pass. A test project instantiates it.</summary>
public abstract class ConformanceSuite
{
    /// <summary>Runs a scenario on ranks of the kind under test; throws if any rank fails.</summary>
    protected abstract Task RunAsync(string scenario, int ranks, int seed);

    public static TheoryData<string, int> Cases()
    {
        var cases = new TheoryData<string, int>();
        foreach (string scenario in Scenario.All.Keys)
        {
            foreach (int ranks in new[] { 1, 3, 5, 8 }) cases.Add(scenario, ranks);
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Agrees_with_the_reference(string scenario, int ranks)
    {
        // Fresh inputs each time; the seed is in the failure's message.
        int seed = Random.Shared.Next(1 << 20);
        try
        {
            await RunAsync(scenario, ranks, seed);
        }
        catch (Exception failure) when (failure is not Xunit.Sdk.SkipException)
        {
            throw new InvalidOperationException($"{scenario} with {ranks} ranks failed with seed {seed}: {failure.Message}", failure);
        }
    }
}

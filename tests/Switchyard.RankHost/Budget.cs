using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Makes a buffer with a memory budget of as many MiB as the seed says. What the system then refuses depends on the process, so it has one to itself.</summary>
internal static class Budget
{
    public const string Name = "budget";

    public static async Task RunAsync(RankContext rank)
    {
        var shape = new Shape(rank.Group.Size, 16, 4, 256, 64, RowLayout.ExpertMajor, 1, Routing.Uniform);
        using ExpertBuffer buffer = (await rank.CreateAsync<BFloat16>(shape, budget: (long)rank.Seed << 20)).Inner;
        Console.WriteLine("made");
    }
}

using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Tells how many threads move a rank's rows unless told otherwise.</summary>
internal static class Threads
{
    public const string Name = "threads";

    public static async Task RunAsync(RankContext rank)
    {
        using ExpertBuffer buffer = await ExpertBuffer.CreateAsync(rank.Group, new ExpertBufferOptions
        {
            Backend = rank.Backend,
            Experts = 4,
            TopK = 1,
            Hidden = 8,
            MaxTokensPerRank = 1,
            Element = ElementType.Single,
        });
        // The caller's own, and those of the crew, whose names the kernel cuts.
        Console.WriteLine(1 + Directory.GetDirectories("/proc/self/task").Count(thread => File.ReadAllText($"{thread}/comm").StartsWith("switchyard work", StringComparison.Ordinal)));
        await rank.Group.BarrierAsync();
    }
}

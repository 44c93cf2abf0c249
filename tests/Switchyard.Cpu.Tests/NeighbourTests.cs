using System.Globalization;
using Switchyard.Topology;
using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>Ranks divide the processors that they share, and no others.</summary>
public sealed class NeighbourTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("switchyard-test-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Theory]
    [InlineData(false, "2")]
    [InlineData(true, "4")]
    public async Task Worker_threads_are_divided_by_the_ranks_that_share_processors(bool isBound, string expected)
    {
        int[] processors = [.. ProcessorAffinity.Usable().Order()];
        Assert.SkipUnless(processors.Length > 1, "one processor cannot be shared out");
        using RankCommand zero = Start(0, isBound ? processors[0] : null), one = Start(1, isBound ? processors[1] : null);
        foreach (RankCommand rank in (RankCommand[])[zero, one])
        {
            (_, string output, string error) = await rank.EndAsync();
            Assert.True(output.Trim() == expected, output + error);
        }
    }

    /// <summary>With the runtime told that there are four processors, so that the figures are those of any machine.</summary>
    private RankCommand Start(int rank, int? processor)
    {
        string[] bind = processor is { } number ? ["taskset", "-c", number.ToString(CultureInfo.InvariantCulture)] : [];
        return RankCommand.Start([.. bind, .. RankCommand.Rank("threads", 1)], ("DOTNET_PROCESSOR_COUNT", "4"),
            ("SWITCHYARD_RANK", rank.ToString(CultureInfo.InvariantCulture)), ("SWITCHYARD_WORLD_SIZE", "2"), ("SWITCHYARD_DIRECTORY", _directory.FullName));
    }
}

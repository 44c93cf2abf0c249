using System.Globalization;
using Switchyard.Topology;

namespace Switchyard.Cli.Launch;

/// <summary>How a rank's processors are chosen.</summary>
internal enum Binding
{
    /// <summary>All ranks may use all.</summary>
    None,

    /// <summary>Each rank has whole cores of its own, as many as the others; where there are more ranks than cores, they share them.</summary>
    Core,
}

/// <summary>
/// The launcher's own processors, shared out to the ranks: neighbouring cores to a rank, and the threads of a core together, so that ranks share
/// neither a core nor, where they fit, a package.
/// </summary>
internal static class CoreShares
{
    public static int[][] Of(int ranks) => Share(Cores(ProcessorAffinity.Usable(), PlaceOf), ranks);

    /// <summary>The processors of each core, in the order of their places.</summary>
    public static int[][] Cores(IEnumerable<int> processors, Func<int, (int Package, int Core)> placeOf) =>
        [.. processors.Order().GroupBy(placeOf).OrderBy(core => core.Key).Select(core => core.ToArray())];

    public static int[][] Share(int[][] cores, int ranks)
    {
        var shares = new int[ranks][];
        for (int rank = 0; rank < ranks; rank++)
        {
            int first = rank * cores.Length / ranks, end = Math.Max(first + 1, (rank + 1) * cores.Length / ranks);
            shares[rank] = [.. cores[first..end].SelectMany(core => core)];
        }
        return shares;
    }

    private static (int Package, int Core) PlaceOf(int processor) =>
        // Without the kernel's word a processor is a core.
        (Number(processor, "physical_package_id") ?? 0, Number(processor, "core_id") ?? processor);

    private static int? Number(int processor, string name)
    {
        string file = string.Create(CultureInfo.InvariantCulture, $"/sys/devices/system/cpu/cpu{processor}/topology/{name}");
        return File.Exists(file) && int.TryParse(File.ReadAllText(file), NumberStyles.AllowLeadingSign | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out int number)
            ? number
            : null;
    }
}

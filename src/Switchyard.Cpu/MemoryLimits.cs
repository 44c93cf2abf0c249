using System.Globalization;

namespace Switchyard.Cpu;

/// <summary>
/// How much memory this process may still take: what the machine has available and what its control group leaves. Asked before anything is
/// allocated, since filling a memfd beyond it does not fail but has a process killed.
/// </summary>
internal static class MemoryLimits
{
    public static long AvailableBytes()
    {
        long available = MeminfoAvailable() ?? long.MaxValue;
        foreach ((string limit, string usage) in ControlGroupFiles())
        {
            if (ReadNumber(limit) is { } most && ReadNumber(usage) is { } used) available = Math.Min(available, Math.Max(0, most - used));
        }
        return available;
    }

    private static long? MeminfoAvailable()
    {
        foreach (string line in File.ReadLines("/proc/meminfo"))
        {
            if (!line.StartsWith("MemAvailable:", StringComparison.Ordinal)) continue;
            string kilobytes = line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1];
            return long.Parse(kilobytes, CultureInfo.InvariantCulture) * 1024;
        }
        return null;
    }

    /// <summary>The files of every control group from this process's up to the root: each may limit.</summary>
    private static IEnumerable<(string Limit, string Usage)> ControlGroupFiles()
    {
        foreach (string line in File.ReadLines("/proc/self/cgroup"))
        {
            string[] parts = line.Split(':', 3);
            bool isVersion2 = parts is ["0", "", _];
            if (!isVersion2 && !parts[1].Split(',').Contains("memory")) continue;
            string root = isVersion2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
            for (string? group = parts[2]; group is not null; group = Path.GetDirectoryName(group))
            {
                string folder = root + group.TrimEnd('/');
                yield return isVersion2
                    ? ($"{folder}/memory.max", $"{folder}/memory.current")
                    : ($"{folder}/memory.limit_in_bytes", $"{folder}/memory.usage_in_bytes");
            }
        }
    }

    /// <summary>Null where there is no such file or no limit ("max").</summary>
    private static long? ReadNumber(string path) =>
        File.Exists(path) && long.TryParse(File.ReadAllText(path).AsSpan().Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long number)
            ? number
            : null;
}

using System.Globalization;

namespace Switchyard.Cpu;

/// <summary>
/// How much memory this process may still take: what the machine has available and what its control groups leave. Asked before anything is
/// allocated, since filling a memfd beyond it does not fail but has a process killed. Swap is not counted.
/// </summary>
internal static class MemoryLimits
{
    /// <param name="root">Where the kernel's file systems are, if not at the root.</param>
    public static long AvailableBytes(string root = "")
    {
        long available = MeminfoAvailable(root) ?? long.MaxValue;
        foreach (ControlGroup group in ControlGroup.OfThisProcess(root)) available = Math.Min(available, group.FreeBytes() ?? long.MaxValue);
        return available;
    }

    /// <summary>Null where the kernel does not tell: those before 3.14, and some sandboxes.</summary>
    private static long? MeminfoAvailable(string root)
    {
        foreach (string line in File.ReadLines(root + "/proc/meminfo"))
        {
            if (line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is ["MemAvailable:", var kilobytes, ..]
                && long.TryParse(kilobytes, NumberStyles.None, CultureInfo.InvariantCulture, out long number))
            {
                return number <= long.MaxValue / 1024 ? number * 1024 : long.MaxValue;
            }
        }
        return null;
    }
}

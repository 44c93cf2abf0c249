using System.Globalization;

namespace Switchyard.Cli.Launch;

/// <summary>How many processes the kernel has killed for want of memory, of the machine or of a control group, since a moment.</summary>
internal sealed class MemoryKills
{
    private readonly long? _before = Total();

    private MemoryKills()
    {
    }

    /// <summary>Null where the kernel does not tell, as before Linux 4.13.</summary>
    public long? Count => Total() - _before;

    public static MemoryKills CountFromNow() => new();

    /// <summary>The whole machine's: a rank may be in a control group of its own.</summary>
    private static long? Total()
    {
        const string Field = "oom_kill ";
        string? line = File.ReadLines("/proc/vmstat").FirstOrDefault(line => line.StartsWith(Field, StringComparison.Ordinal));
        return line is null ? null : long.Parse(line.AsSpan(Field.Length), CultureInfo.InvariantCulture);
    }
}

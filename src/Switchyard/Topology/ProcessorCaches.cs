using System.Globalization;

namespace Switchyard.Topology;

/// <summary>The caches of this machine's processors, as the kernel tells them.</summary>
internal static class ProcessorCaches
{
    private const string Folder = "/sys/devices/system/cpu/cpu0/cache";
    private const long BytesIfUnknown = 32 << 20;

    /// <summary>The size of the last cache, which cores share; read once.</summary>
    public static long LastLevelBytes { get; } = ReadLastLevelBytes();

    private static long ReadLastLevelBytes()
    {
        if (!Directory.Exists(Folder)) return BytesIfUnknown;
        return Directory.EnumerateDirectories(Folder, "index*")
            .Select(cache => Path.Combine(cache, "size"))
            .Where(File.Exists)
            .Select(path => SizeIn(File.ReadAllText(path).Trim()))
            .DefaultIfEmpty(BytesIfUnknown)
            .Max();
    }

    /// <summary>A size as the kernel writes it: 32768K.</summary>
    private static long SizeIn(string text) =>
        long.TryParse(text.TrimEnd('K'), NumberStyles.None, CultureInfo.InvariantCulture, out long kilobytes) ? kilobytes * 1024 : BytesIfUnknown;
}

using System.Globalization;

namespace Switchyard.Cpu;

/// <summary>A control group that may limit this process's memory, by its folder.</summary>
internal sealed record ControlGroup(string Folder, bool IsVersion2)
{
    /// <summary>What it leaves; null where it sets no limit.</summary>
    /// <remarks>
    /// Cache of files that was not used lately counts as used, though the kernel drops it for whoever needs the memory. Beyond memory.high, of
    /// version 2, a process is not killed but all but stopped.
    /// </remarks>
    public long? FreeBytes()
    {
        long? limit = IsVersion2
            ? Least(NumberIn("memory.max"), NumberIn("memory.high"))
            : NumberIn("memory.limit_in_bytes");
        if (limit is not { } most || NumberIn(IsVersion2 ? "memory.current" : "memory.usage_in_bytes") is not { } used) return null;
        long droppable = Statistic(IsVersion2 ? "inactive_file" : "total_inactive_file") ?? 0;
        return Math.Max(0, most - Math.Max(0, used - droppable));
    }

    /// <summary>This process's groups that can be seen, from its own up to the root: each may limit. Hybrid hierarchies have both versions.</summary>
    /// <param name="root">Where the kernel's file systems are, if not at the root.</param>
    public static IEnumerable<ControlGroup> OfThisProcess(string root)
    {
        Mount[] mounts = Mount.Read(root);
        foreach (string line in File.ReadLines(root + "/proc/self/cgroup"))
        {
            if (line.Split(':', 3) is not [var hierarchy, var controllers, var path]) continue;
            bool isVersion2 = hierarchy == "0" && controllers.Length == 0;
            if (!isVersion2 && !controllers.Split(',').Contains("memory")) continue;
            foreach (Mount mount in mounts.Where(mount => mount.IsVersion2 == isVersion2))
            {
                foreach (string folder in mount.FoldersOf(path)) yield return new ControlGroup(root + folder, isVersion2);
            }
        }
    }

    private static long? Least(long? one, long? other) => one is null || other < one ? other : one;

    private long? Statistic(string name)
    {
        foreach (string line in Lines("memory.stat"))
        {
            if (line.Split(' ') is [var key, var value] && key == name) return Number(value);
        }
        return null;
    }

    /// <summary>Null also for no limit, which is "max".</summary>
    private long? NumberIn(string file) => Lines(file) is [var line, ..] ? Number(line) : null;

    private string[] Lines(string file)
    {
        try
        {
            return File.ReadAllLines(Path.Combine(Folder, file));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException) // the last for a path that is none
        {
            return []; // the root of a hierarchy has no such file, and a group can go at any time
        }
    }

    private static long? Number(string text) =>
        long.TryParse(text.AsSpan().Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number : null;

    /// <summary>A place where a hierarchy, or the part of it below <paramref name="Top"/>, is mounted.</summary>
    private sealed record Mount(string Top, string Place, bool IsVersion2)
    {
        public static Mount[] Read(string root)
        {
            string file = root + "/proc/self/mountinfo";
            Mount[] found = File.Exists(file) ? [.. File.ReadLines(file).Select(Parse).OfType<Mount>()] : [];
            return found.Length > 0 ? found : [new("/", "/sys/fs/cgroup", true), new("/", "/sys/fs/cgroup/memory", false)];
        }

        /// <summary>
        /// The folders of a group and those above it, up to the place of the mount. A group that cannot be seen there, because a namespace hides
        /// its name, still stands under the place itself.
        /// </summary>
        public IEnumerable<string> FoldersOf(string group)
        {
            for (string? below = Below(group); below is not null; below = below.Length > 0 ? below[..below.LastIndexOf('/')] : null)
                yield return Place + below;
        }

        /// <summary>"" or a path that starts with '/'; null where the group is elsewhere.</summary>
        private string? Below(string group)
        {
            if (HasParent(Top)) return "";
            if (HasParent(group)) return null;
            string top = Top.TrimEnd('/');
            group = group.TrimEnd('/');
            return group == top || group.StartsWith(top + "/", StringComparison.Ordinal) ? group[top.Length..] : null;
        }

        private static bool HasParent(string path) => path == "/.." || path.StartsWith("/../", StringComparison.Ordinal);

        /// <summary>36 35 98:0 /top /place options… - type source options-of-the-hierarchy</summary>
        private static Mount? Parse(string line)
        {
            string[] words = line.Split(' ');
            int dash = Array.IndexOf(words, "-", Math.Min(6, words.Length));
            if (dash < 0 || dash + 3 >= words.Length) return null;
            return words[dash + 1] switch
            {
                "cgroup2" => new(Unescaped(words[3]), Unescaped(words[4]).TrimEnd('/'), true),
                "cgroup" when words[dash + 3].Split(',').Contains("memory") => new(Unescaped(words[3]), Unescaped(words[4]).TrimEnd('/'), false),
                _ => null,
            };
        }

        /// <summary>Blanks and backslashes stand there in octal.</summary>
        private static string Unescaped(string path) =>
            path.Replace(@"\040", " ", StringComparison.Ordinal).Replace(@"\011", "\t", StringComparison.Ordinal).Replace(@"\134", @"\", StringComparison.Ordinal);
    }
}

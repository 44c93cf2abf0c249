using System.Diagnostics;
using System.Text;

namespace Switchyard.Cli.Tests;

internal static class ProcessTable
{
    /// <summary>Whether a process runs. One that ended but was not collected yet (state Z) does not.</summary>
    public static bool IsAlive(int pid)
    {
        string stat = Read($"/proc/{pid}/stat");
        return stat.Length > 0 && stat[stat.LastIndexOf(')') + 2] is not ('Z' or 'X');
    }

    /// <summary>Waits until none of the processes runs; false after the time limit.</summary>
    public static async Task<bool> AllEndAsync(IEnumerable<int> pids, TimeSpan limit)
    {
        var clock = Stopwatch.StartNew();
        while (pids.Any(IsAlive))
        {
            if (clock.Elapsed > limit)
                return false;
            await Task.Delay(10, CancellationToken.None);
        }
        return true;
    }

    /// <summary>The command line of every process.</summary>
    public static IEnumerable<string> CommandLines() => Running().Select(pid => Read($"/proc/{pid}/cmdline"));

    /// <summary>The id of every process.</summary>
    public static IEnumerable<int> Running() => Directory.EnumerateDirectories("/proc")
        .Select(folder => Path.GetFileName(folder))
        .Where(name => char.IsAsciiDigit(name[0]))
        .Select(int.Parse);

    /// <summary>A file of /proc; empty when its process or thread is gone.</summary>
    public static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path, Encoding.Latin1);
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}

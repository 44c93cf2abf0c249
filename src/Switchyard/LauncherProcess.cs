using System.Text;

namespace Switchyard;

/// <summary>The process that started the ranks of a node: the nearest ancestor that is not itself, or part of, a rank.</summary>
internal static class LauncherProcess
{
    /// <summary>Its number and start time, which no other process shares; null where /proc does not tell.</summary>
    /// <param name="variable">What the launcher sets for each rank: a script between the two has it too, the launcher has not.</param>
    public static string? IdOf(string variable)
    {
        try
        {
            string[] fields = StatusFields("self");
            do
            {
                string parent = fields[1];
                if (parent == "0") return null;
                fields = StatusFields(parent);
                if (!IsSetFor(parent, variable)) return $"{parent}-{fields[19]}";
            }
            while (true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or IndexOutOfRangeException)
        {
            return null;
        }
    }

    /// <summary>From the state on, which is field 3: the name in brackets before it may hold spaces.</summary>
    private static string[] StatusFields(string process)
    {
        string status = File.ReadAllText($"/proc/{process}/stat");
        return status[(status.LastIndexOf(')') + 2)..].Split(' ');
    }

    /// <summary>False also for another user's process, such as a daemon that starts ranks for all users.</summary>
    private static bool IsSetFor(string process, string variable)
    {
        try
        {
            string start = variable + "=";
            return File.ReadAllText($"/proc/{process}/environ", Encoding.Latin1).Split('\0').Any(each => each.StartsWith(start, StringComparison.Ordinal));
        }
        catch (UnauthorizedAccessException)
        {
            return false;
        }
    }
}

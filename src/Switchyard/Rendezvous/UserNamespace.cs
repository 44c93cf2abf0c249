using System.Globalization;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>
/// Which users have a number in this process's user namespace. All others look alike there, under one number (mostly 65534): a file or a peer of
/// that number may be anybody's, this user's or not.
/// </summary>
internal static class UserNamespace
{
    public const string Remedy = "run all ranks in one user namespace, or map their user in each, as 'unshare --map-current-user' and container engines do";

    /// <exception cref="JoinException">This process's own user has no number, so nothing can be told to be its own.</exception>
    public static void RequireOwnUser()
    {
        if (!Has(Libc.geteuid()))
            throw new JoinException($"This process's user has no number in its user namespace, so others cannot be told from it: {Remedy}.");
    }

    public static bool Has(uint user) => Maps(File.ReadAllText("/proc/self/uid_map"), user);

    /// <summary>Lines of first number inside, first outside, and how many.</summary>
    internal static bool Maps(string map, uint user)
    {
        foreach (string line in map.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            uint first = uint.Parse(words[0], CultureInfo.InvariantCulture), count = uint.Parse(words[2], CultureInfo.InvariantCulture);
            if (user >= first && user - first < count) return true;
        }
        return false;
    }
}

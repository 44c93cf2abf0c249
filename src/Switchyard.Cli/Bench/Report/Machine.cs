using System.ComponentModel;
using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Switchyard.Cli.Bench.Report;

/// <summary>Where a figure was measured, and of what.</summary>
internal static class Machine
{
    public static string Processor { get; } = File.ReadLines("/proc/cpuinfo")
        .FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? "unknown";

    public static int Cores => Environment.ProcessorCount;

    public static string Kernel { get; } = File.ReadAllText("/proc/sys/kernel/osrelease").Trim();

    public static string Runtime => RuntimeInformation.FrameworkDescription;

    /// <summary>
    /// The commit of the checkout that the tool was built in, with "-dirty" behind it if files were changed; outside of one, what the build noted;
    /// null if it did not.
    /// </summary>
    public static string? Commit { get; } = DescribeCommit() ?? NotedCommit();

    /// <summary>The SDK puts it behind the version: 1.2.3+commit.</summary>
    private static string? NotedCommit() => typeof(Machine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
        .Split('+') is [_, var commit] ? commit : null;

    private static string? DescribeCommit()
    {
        string[] arguments = ["-C", AppContext.BaseDirectory, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
        var info = new ProcessStartInfo("git", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        try
        {
            using Process git = Process.Start(info)!;
            string commit = git.StandardOutput.ReadToEnd().Trim();
            git.WaitForExit();
            return git.ExitCode == 0 ? commit : null;
        }
        catch (Win32Exception)
        {
            return null;
        }
    }
}

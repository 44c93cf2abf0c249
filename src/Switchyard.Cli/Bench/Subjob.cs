using System.Security.Cryptography;
using Switchyard.Cli.Launch;

namespace Switchyard.Cli.Bench;

/// <summary>
/// Processes that do a part of the bench's work, started and looked after as 'switchyard launch' does, so that none outlives the tool.
/// </summary>
internal static class Subjob
{
    private static readonly TimeSpan _grace = TimeSpan.FromSeconds(1);

    /// <exception cref="SubjobFailedException">They did not all succeed; why has been said.</exception>
    public static async Task RunAsync(int processes, string[] command, Dictionary<string, string> variables)
    {
        int exitCode = await Launcher.RunAsync(new LaunchOptions
        {
            Ranks = processes,
            Job = "bench-" + RandomNumberGenerator.GetHexString(12, lowercase: true),
            Grace = _grace,
            Prefix = processes > 1,
            Command = command,
            Variables = variables,
        });
        if (exitCode != 0)
            throw new SubjobFailedException(exitCode);
    }
}

/// <summary>A part of the bench's work failed, which was said already.</summary>
internal sealed class SubjobFailedException(int exitCode) : Exception
{
    public int ExitCode => exitCode;
}

using System.Security.Cryptography;

namespace Switchyard.Cli.Launch;

/// <summary>By this variable all processes of one job can be found, and no others.</summary>
internal static class JobMark
{
    public const string Variable = "SWITCHYARD_LAUNCH";

    public static string New() => $"{Variable}={RandomNumberGenerator.GetHexString(24, lowercase: true)}";

    public static string ValueOf(string mark) => mark[(Variable.Length + 1)..];
}

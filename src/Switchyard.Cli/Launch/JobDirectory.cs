using System.Security.Cryptography;

namespace Switchyard.Cli.Launch;

/// <summary>Where a job's ranks meet and where its token lies. What it made, it removes.</summary>
internal sealed class JobDirectory : IDisposable
{
    private const int TokenBytes = 32;

    private JobDirectory(string? privatePath, string path, string tokenFile)
    {
        PrivatePath = privatePath;
        MeetingPath = path;
        TokenFile = tokenFile;
    }

    /// <summary>The folder made for this job, null when the user gave both folder and token.</summary>
    public string? PrivatePath { get; }

    public string MeetingPath { get; }

    public string TokenFile { get; }

    /// <summary>Where a private folder is to be; null where none is needed.</summary>
    public static string? PrivatePathFor(LaunchOptions options) =>
        options is { Directory: not null, TokenFile: not null } ? null : ScratchFolder.NewPath("switchyard-");

    public static JobDirectory Create(LaunchOptions options, string? privatePath)
    {
        if (privatePath is null)
            return new JobDirectory(null, options.Directory!, options.TokenFile!);
        ScratchFolder.Make(privatePath);
        return new JobDirectory(privatePath, options.Directory ?? privatePath, options.TokenFile ?? WriteToken(Path.Combine(privatePath, "token")));
    }

    public void Dispose()
    {
        if (PrivatePath is not null && Directory.Exists(PrivatePath))
            Directory.Delete(PrivatePath, recursive: true);
    }

    private static string WriteToken(string path)
    {
        var privately = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        };
        using var writer = new StreamWriter(path, privately);
        writer.WriteLine(RandomNumberGenerator.GetHexString(2 * TokenBytes, lowercase: true));
        return path;
    }
}

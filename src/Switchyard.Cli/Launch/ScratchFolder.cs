using System.Security.Cryptography;

namespace Switchyard.Cli.Launch;

/// <summary>A private folder for temporary files that goes with its maker, also if that is killed.</summary>
internal sealed class ScratchFolder : IAsyncDisposable
{
    private readonly Guard _guard;

    private ScratchFolder(string path, Guard guard)
    {
        Path = path;
        _guard = guard;
    }

    public string Path { get; }

    public static ScratchFolder Create(string prefix)
    {
        string path = NewPath(prefix);
        // First the guard, so that there is no moment in which a kill would leave the folder.
        var guard = Guard.Start(path, JobMark.New());
        Make(path);
        return new ScratchFolder(path, guard);
    }

    /// <summary>A name that nobody can foresee.</summary>
    public static string NewPath(string prefix) => System.IO.Path.Combine(System.IO.Path.GetTempPath(), prefix + RandomNumberGenerator.GetHexString(24, lowercase: true));

    public static void Make(string path) => Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

    public ValueTask DisposeAsync() => _guard.DisposeAsync();
}

using System.Runtime.InteropServices;

namespace Switchyard.Cli.Interop;

internal static partial class Libc
{
    private const string Library = "libc";

    internal const int X_OK = 1;

    [LibraryImport(Library)]
    internal static partial int kill(int pid, int signal);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int access(string path, int mode);
}

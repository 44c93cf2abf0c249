using Switchyard.Cli.Interop;

namespace Switchyard.Cli.Launch;

/// <summary>Finds executables as a shell does, so that a wrong name is one error before anything starts and not one a rank.</summary>
internal static class ProgramFinder
{
    /// <summary>This tool, to be started again: the executable that brings its runtime along, or else the assembly that was handed to dotnet.</summary>
    public static string ThisTool => IsDotnet(Environment.ProcessPath!) ? Path.Combine(AppContext.BaseDirectory, "Switchyard.Cli.dll") : Environment.ProcessPath!;

    /// <summary>The command with its program as a full path, behind dotnet where the program is a .dll.</summary>
    public static string[] Resolve(string[] command)
    {
        string program = command[0];
        if (!program.EndsWith(".dll", StringComparison.OrdinalIgnoreCase))
            return [Executable(program), .. command[1..]];
        if (!File.Exists(program))
            throw new UsageException($"program '{program}' not found.");
        return [Dotnet(), Path.GetFullPath(program), .. command[1..]];
    }

    /// <summary>A program that the launcher itself needs.</summary>
    public static string Required(string name, string package) =>
        OnPath(name) ?? throw new UsageException($"'{name}' not found: install the package {package}.");

    private static string Executable(string program)
    {
        if (!program.Contains('/', StringComparison.Ordinal) && OnPath(program) is { } found)
            return found;
        string path = Path.GetFullPath(program);
        if (Directory.Exists(path))
            throw new UsageException($"program '{program}' is a directory.");
        if (!File.Exists(path))
            throw new UsageException($"program '{program}' not found.");
        return IsExecutable(path) ? path : throw new UsageException($"program '{program}' is not executable.");
    }

    private static bool IsDotnet(string program) => Path.GetFileName(program) == "dotnet";

    private static string Dotnet() => IsDotnet(Environment.ProcessPath!)
        ? Environment.ProcessPath!
        : OnPath("dotnet") ?? throw new UsageException("'dotnet' not found: a .dll needs it on the PATH.");

    private static string? OnPath(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin:/bin")
        .Split(':')
        .Select(folder => Path.GetFullPath(Path.Combine(folder.Length > 0 ? folder : ".", name)))
        .FirstOrDefault(IsExecutable);

    private static bool IsExecutable(string path) => File.Exists(path) && Libc.access(path, Libc.X_OK) == 0;
}

namespace MoeTraining;

/// <summary>The checkout that the demo runs in, which is also what the model reads.</summary>
internal static class Repository
{
    private static readonly string[] _skippedFolders = ["artifacts", "bin", "obj", "out", "node_modules"];

    /// <summary>The folder with the solution, from the program's folder upwards.</summary>
    /// <exception cref="DemoException">There is none.</exception>
    public static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Switchyard.slnx"))) return folder.FullName;
        }
        throw new DemoException($"No Switchyard.slnx in {AppContext.BaseDirectory} or above: the demo reads and runs from a checkout.");
    }

    /// <summary>All Markdown and C# files below the root, in ordinal order of their paths, one after another.</summary>
    /// <exception cref="DemoException">There is too little text.</exception>
    public static byte[] ReadText(string root)
    {
        IEnumerable<string> files = Files(new DirectoryInfo(root))
            .Where(file => file.Extension is ".md" or ".cs")
            .Select(file => file.FullName)
            .Order(StringComparer.Ordinal);
        using var text = new MemoryStream();
        foreach (string file in files) text.Write(File.ReadAllBytes(file));
        if (text.Length < 10_000)
            throw new DemoException($"{root} has only {text.Length} bytes of .md and .cs files: too little to learn from.");
        return text.ToArray();
    }

    private static IEnumerable<FileInfo> Files(DirectoryInfo folder) =>
        folder.EnumerateDirectories()
            .Where(child => !child.Name.StartsWith('.') && !_skippedFolders.Contains(child.Name) && child.LinkTarget is null)
            .SelectMany(Files)
            .Concat(folder.EnumerateFiles());
}

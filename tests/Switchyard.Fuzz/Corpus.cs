namespace Switchyard.Fuzz;

/// <summary>Inputs in a file, one a line, in hexadecimal.</summary>
internal static class Corpus
{
    public static List<byte[]> Read(string path) =>
        File.Exists(path) ? [.. File.ReadLines(path).Select(Convert.FromHexString)] : [];

    public static void Write(string path, IEnumerable<byte[]> inputs) =>
        File.WriteAllLines(path, inputs.Select(Convert.ToHexStringLower).Order(StringComparer.Ordinal));
}

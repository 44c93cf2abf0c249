using System.Text.RegularExpressions;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Every invariant in ARCHITECTURE.md names the test that proves it, and that test exists.</summary>
public partial class ArchitectureTests
{
    [Fact]
    public void Each_invariant_names_a_test_that_exists()
    {
        string[] rows = [.. File.ReadAllLines(Path.Combine(Repository.Root, "ARCHITECTURE.md")).Where(line => line.StartsWith("| I", StringComparison.Ordinal))];
        Assert.True(rows.Length >= 10, $"found {rows.Length} invariants");
        string sources = string.Join('\n', Directory.GetFiles(Path.Combine(Repository.Root, "tests"), "*", SearchOption.AllDirectories)
            .Where(path => path.EndsWith(".cs", StringComparison.Ordinal) || path.EndsWith("/check", StringComparison.Ordinal) || path.EndsWith(".pml", StringComparison.Ordinal))
            .Select(File.ReadAllText));
        foreach (string row in rows)
        {
            string[] tests = [.. TestName().Matches(row.Split('|')[^2]).Select(match => match.Groups[1].Value)];
            Assert.True(tests.Length > 0, $"names no test: {row}");
            Assert.All(tests, test => Assert.True(sources.Contains(test, StringComparison.Ordinal), $"'{test}' is not in tests/: {row}"));
        }
    }

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex TestName();
}

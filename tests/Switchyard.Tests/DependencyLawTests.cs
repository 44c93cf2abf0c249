using System.Xml.Linq;
using Xunit;

namespace Switchyard.Tests;

/// <summary>References run one way: core ← backends ← command line and samples; backends never see each other.</summary>
public class DependencyLawTests
{
    /// <summary>What each project under src may reference. A new project is added here, and nowhere may it be left out.</summary>
    private static readonly Dictionary<string, string[]> _law = new()
    {
        ["Switchyard"] = [],
        ["Switchyard.Cpu"] = ["Switchyard"],
        ["Switchyard.Cuda"] = ["Switchyard"],
        ["Switchyard.Cli"] = ["Switchyard", "Switchyard.Cpu", "Switchyard.Cuda"],
    };

    [Fact]
    public void Projects_reference_only_what_the_law_allows()
    {
        string[] projects = Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.csproj", SearchOption.AllDirectories);
        Assert.Equal(_law.Keys.Order(), projects.Select(path => Path.GetFileNameWithoutExtension(path)).Order());
        foreach (string project in projects)
        {
            string name = Path.GetFileNameWithoutExtension(project);
            IEnumerable<string> references = XDocument.Load(project).Descendants("ProjectReference")
                .Select(each => Path.GetFileNameWithoutExtension(each.Attribute("Include")!.Value.Replace('\\', '/')));
            Assert.All(references, reference => Assert.Contains(reference, _law[name]));
        }
    }

    [Fact]
    public void Core_and_backends_reference_no_package_at_run_time()
    {
        foreach (System.Reflection.Assembly assembly in new[] { typeof(ExpertBuffer).Assembly, typeof(Cpu.CpuBackend).Assembly, typeof(Cuda.CudaException).Assembly })
        {
            Assert.All(assembly.GetReferencedAssemblies(), reference =>
                Assert.True(reference.Name!.StartsWith("System.", StringComparison.Ordinal) || reference.Name.StartsWith("Microsoft.Win32", StringComparison.Ordinal) || reference.Name == "Switchyard", reference.Name));
        }
    }

    [Fact]
    public void Native_libraries_are_bound_in_Interop_folders()
    {
        string[] elsewhere = [.. Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.cs", SearchOption.AllDirectories)
            .Where(path => !path.Contains("/Interop/", StringComparison.Ordinal) && File.ReadAllText(path).Contains("[LibraryImport(", StringComparison.Ordinal))];
        Assert.Empty(elsewhere);
    }
}

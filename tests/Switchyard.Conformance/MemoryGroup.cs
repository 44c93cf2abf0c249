using Xunit;

namespace Switchyard.Conformance;

/// <summary>A memory control group made for a test, which is skipped where none can be made.</summary>
public sealed class MemoryGroup : IDisposable
{
    private readonly string _folder;

    private MemoryGroup(string folder) => _folder = folder;

    /// <summary>What a shell does to enter it.</summary>
    public string Enter => $"echo $$ >'{_folder}/cgroup.procs'";

    public static MemoryGroup Create(long bytes)
    {
        bool isVersion1 = Directory.Exists("/sys/fs/cgroup/memory");
        string folder = $"/sys/fs/cgroup/{(isVersion1 ? "memory/" : "")}switchyard-test-{Guid.NewGuid():N}";
        try
        {
            Directory.CreateDirectory(folder);
            File.WriteAllText($"{folder}/{(isVersion1 ? "memory.limit_in_bytes" : "memory.max")}", $"{bytes}");
            return new MemoryGroup(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (Directory.Exists(folder)) Directory.Delete(folder);
            Assert.Skip($"no memory control group can be made: {e.Message}");
            throw;
        }
    }

    /// <summary>Its processes have ended; the kernel may need a moment to see that.</summary>
    public void Dispose()
    {
        for (int tries = 0; Directory.Exists(_folder); tries++)
        {
            try
            {
                Directory.Delete(_folder);
            }
            catch (IOException) when (tries < 100)
            {
                Thread.Sleep(10);
            }
        }
    }
}

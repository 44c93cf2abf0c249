using Switchyard.Interop;
using Switchyard.Transports;

namespace Switchyard.Rendezvous.Tests;

/// <summary>A job with a folder of its own, gone afterwards.</summary>
internal sealed class TestJob : IDisposable
{
    public TestJob() => Directory = System.IO.Directory.CreateTempSubdirectory("switchyard-test-").FullName;

    public string Directory { get; }

    public string SocketPath => Path.Combine(Directory, "job.sock");

    public string TokenPath => Path.Combine(Directory, "job.token");

    public ExpertGroupOptions Options(int rank, int size, double timeoutSeconds = 10) => new()
    {
        Rank = rank,
        Size = size,
        Job = "job",
        Directory = Directory,
        JoinTimeout = TimeSpan.FromSeconds(timeoutSeconds),
    };

    public Task<ExpertGroup> JoinAsync(int rank, int size, double timeoutSeconds = 10) =>
        ExpertGroup.JoinAsync(Options(rank, size, timeoutSeconds), TestContext.Current.CancellationToken);

    public Task<ExpertGroup[]> JoinAllAsync(int size) => Task.WhenAll(Enumerable.Range(0, size).Select(rank => JoinAsync(rank, size)));

    /// <summary>Waits until rank 0 listens.</summary>
    public async Task ListeningAsync()
    {
        for (int i = 0; i < 500 && !File.Exists(SocketPath); i++) await Task.Delay(5);
    }

    public string[] Files() => System.IO.Directory.GetFileSystemEntries(Directory);

    public void Dispose() => System.IO.Directory.Delete(Directory, recursive: true);

    /// <summary>
    /// The process's open descriptors, but those of files: the runtime opens assemblies and symbols when it comes to them. Earlier tests' garbage is
    /// collected first, so that it cannot hide a leak.
    /// </summary>
    public static int OpenDescriptors(bool collect = true)
    {
        if (collect)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        return new DirectoryInfo("/proc/self/fd").GetFiles().Count(descriptor => !IsFile(descriptor.LinkTarget ?? ""));
    }

    private static bool IsFile(string target) => target.StartsWith('/') && !target.StartsWith("/memfd:", StringComparison.Ordinal);

    public static void DisposeAll(IEnumerable<ExpertGroup> groups)
    {
        foreach (ExpertGroup group in groups) group.Dispose();
    }
}

/// <summary>A memfd, sealed as arenas are unless told otherwise.</summary>
internal sealed unsafe class TestArena : ArenaMemory
{
    public TestArena(long bytes, bool isSealed = true)
    {
        fixed (byte* name = "test\0"u8)
            Descriptor = new(Libc.memfd_create(name, Libc.MFD_CLOEXEC | Libc.MFD_ALLOW_SEALING), ownsHandle: true);
        int fd = (int)Descriptor.DangerousGetHandle();
        Assert.Equal(0, Libc.ftruncate(fd, bytes));
        if (isSealed) Assert.Equal(0, Libc.fcntl(fd, Libc.F_ADD_SEALS, Libc.F_SEAL_SEAL | Libc.F_SEAL_SHRINK | Libc.F_SEAL_GROW));
        Bytes = bytes;
    }

    public override nint Address => 0;

    public override long Bytes { get; }

    public override Microsoft.Win32.SafeHandles.SafeFileHandle Descriptor { get; }

    public bool IsUnmapped { get; private set; }

    public override void Read(long offset, Span<byte> bytes) => throw new NotSupportedException();

    public override void Write(long offset, ReadOnlySpan<byte> bytes) => throw new NotSupportedException();

    protected override void Unmap()
    {
        IsUnmapped = true;
        Descriptor.Dispose();
    }
}

using System.Globalization;
using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

/// <summary>The kernel's files as machines and containers have them.</summary>
public sealed class MemoryLimitsTests : IDisposable
{
    private const string Version2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    private readonly string _root = Directory.CreateTempSubdirectory("switchyard-test-").FullName;

    public MemoryLimitsTests() => Write("proc/meminfo", "MemTotal: 2000 kB\nMemAvailable:    1000 kB\n");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Without_groups_the_machine_limits()
    {
        Write("proc/self/cgroup", "");
        AssertAvailable(1000 * 1024);
    }

    [Theory]
    // The group itself, one above it, and none.
    [InlineData("700000", "max", 500_000)]
    [InlineData("max", "600000", 400_000)]
    [InlineData("700000", "600000", 400_000)]
    [InlineData("max", "max", 1_024_000)]
    // More used than allowed: a limit can be lowered.
    [InlineData("100000", "max", 0)]
    public void Each_group_from_the_own_to_the_top_limits(string own, string above, long expected)
    {
        Write("proc/self/cgroup", "0::/user.slice/job\n");
        Write("proc/self/mountinfo", Version2);
        Group2("sys/fs/cgroup/user.slice/job", own, used: 200_000);
        Group2("sys/fs/cgroup/user.slice", above, used: 200_000);
        AssertAvailable(expected);
    }

    [Fact]
    public void Memory_high_limits_too()
    {
        Write("proc/self/cgroup", "0::/job\n");
        Write("proc/self/mountinfo", Version2);
        Group2("sys/fs/cgroup/job", "700000", used: 200_000);
        Write("sys/fs/cgroup/job/memory.high", "300000\n");
        AssertAvailable(100_000);
    }

    [Fact]
    public void Cache_that_can_be_dropped_is_not_used_memory()
    {
        Write("proc/self/cgroup", "0::/job\n");
        Write("proc/self/mountinfo", Version2);
        Group2("sys/fs/cgroup/job", "700000", used: 650_000);
        Write("sys/fs/cgroup/job/memory.stat", "anon 100000\nfile 540000\ninactive_file 500000\nactive_file 40000\n");
        AssertAvailable(550_000);
    }

    [Theory]
    // With a namespace of its own a container sees itself as the root.
    [InlineData("0::/\n", Version2)]
    // Without one it sees the name that the host gave it, of which only the part below is mounted.
    [InlineData("0::/docker/4f2a\n", "30 23 0:26 /docker/4f2a /sys/fs/cgroup ro - cgroup2 cgroup rw\n")]
    // The hierarchy was mounted outside of its namespace.
    [InlineData("0::/\n", "30 23 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n")]
    // The name is the host's, though the place is the container's own: its folder is not there.
    [InlineData("0::/system.slice/box.service\n", Version2)]
    // Nothing tells of mounts.
    [InlineData("0::/\n", null)]
    public void A_container_is_limited_by_what_it_sees(string groups, string? mounts)
    {
        Write("proc/self/cgroup", groups);
        if (mounts is not null) Write("proc/self/mountinfo", mounts);
        Group2("sys/fs/cgroup", "500000", used: 100_000);
        AssertAvailable(400_000);
    }

    [Theory]
    [InlineData("sys/fs/cgroup/memory", "/sys/fs/cgroup/memory")]
    [InlineData("cgroups/memory here", "/cgroups/memory\\040here")]
    public void Version_1_is_found_where_it_is_mounted(string folder, string place)
    {
        Write("proc/self/cgroup", "9:name=systemd:/\n5:cpu,cpuacct:/other\n4:memory:/box/job\n0::/\n");
        Write("proc/self/mountinfo", $"""
            34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
            35 31 0:32 / {place} rw,relatime - cgroup cgroup rw,memory
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw

            """);
        Group1($"{folder}/box/job", limit: long.MaxValue - 4095, used: 300_000);
        Group1($"{folder}/box", limit: 900_000, used: 600_000);
        Write($"{folder}/box/memory.stat", "inactive_file 1\ntotal_inactive_file 50000\n");
        AssertAvailable(350_000);
    }

    [Fact]
    public void Another_groups_mount_does_not_limit()
    {
        Write("proc/self/cgroup", "0::/mine\n");
        Write("proc/self/mountinfo", Version2 + "31 23 0:26 /others /mnt/others rw - cgroup2 cgroup2 rw\n");
        Group2("sys/fs/cgroup/mine", "500000", used: 100_000);
        Group2("mnt/others", "1000", used: 1000);
        AssertAvailable(400_000);
    }

    [Theory]
    [InlineData("")]
    [InlineData("nonsense\n::\n:::\n0::\n4:memory\n")]
    [InlineData("0::/../outside\n")]
    public void Odd_files_limit_nothing(string groups)
    {
        Write("proc/self/cgroup", groups);
        Write("proc/self/mountinfo", "1 2\n- - -\n\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2\n" + Version2);
        Group2("sys/fs/cgroup", "many", used: 1);
        AssertAvailable(1000 * 1024);
    }

    [Fact]
    public void This_machine_has_some() => Assert.InRange(MemoryLimits.AvailableBytes(), 1, 1L << 50);

    private void AssertAvailable(long bytes) => Assert.Equal(bytes, MemoryLimits.AvailableBytes(_root));

    private void Group2(string folder, string limit, long used)
    {
        Write($"{folder}/memory.max", limit + "\n");
        Write($"{folder}/memory.current", string.Create(CultureInfo.InvariantCulture, $"{used}\n"));
    }

    private void Group1(string folder, long limit, long used)
    {
        Write($"{folder}/memory.limit_in_bytes", string.Create(CultureInfo.InvariantCulture, $"{limit}\n"));
        Write($"{folder}/memory.usage_in_bytes", string.Create(CultureInfo.InvariantCulture, $"{used}\n"));
    }

    private void Write(string path, string text)
    {
        string full = Path.Combine(_root, path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        File.WriteAllText(full, text);
    }
}

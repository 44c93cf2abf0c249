using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Switchyard.Cpu.Tests;

[Collection(nameof(Alone))]
public sealed class SharedMemoryTests
{
    private const int HugePage = 2 << 20;

    public static TheoryData<long> Sizes => [1, 4096, 4097, HugePage - 1, HugePage, HugePage + 1, (5 * HugePage) + 4321];

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Two_mappings_show_the_same_bytes(long bytes)
    {
        SharedMemory memory = SharedMemory.Create(bytes);
        using SafeFileHandle descriptor = Duplicate(memory);
        SharedMemory again = SharedMemory.Map(descriptor, bytes);
        try
        {
            Assert.Equal((bytes, bytes), (memory.Bytes, again.Bytes));
            Assert.Equal((0, 0), (memory.Address % HugePage, again.Address % HugePage));
            byte[] written = new byte[bytes], read = new byte[bytes];
            memory.Read(0, read);
            Assert.False(read.AsSpan().ContainsAnyExcept((byte)0));
            Random.Shared.NextBytes(written);
            memory.Write(0, written);
            again.Read(0, read);
            Assert.Equal(written, read);
        }
        finally
        {
            memory.Release();
            again.Release();
        }
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void A_mapping_takes_its_own_pages_of_the_address_space_and_gives_them_back(long bytes)
    {
        SharedMemory memory = SharedMemory.Create(bytes);
        nint begin = memory.Address, end = begin + (nint)((bytes + 4095) & -4096);
        Mapping[] around = [.. Mappings().Where(each => each.End >= begin && each.Begin <= end)];
        Assert.Contains(new Mapping(begin, end, IsArena: true, IsReserved: false), around);
        // Threads have a page in front of their stacks that looks like a reservation.
        Assert.DoesNotContain(around, each => each.IsReserved && each.End - each.Begin > 65536);
        memory.Release();
        Assert.DoesNotContain(Mappings(), each => each.IsArena && each.Begin < end && each.End > begin);
    }

    [Fact]
    public void Pages_are_huge_where_the_kernel_gathers_them()
    {
        const string Setting = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
        Assert.SkipUnless(
            Environment.OSVersion.Version >= new Version(6, 1) && File.Exists(Setting) && !File.ReadAllText(Setting).Contains("[deny]", StringComparison.Ordinal),
            "the kernel gathers no pages of shared memory (Linux 6.1, with transparent huge pages not denied)");
        const int Bytes = 8 * HugePage;
        SharedMemory memory = SharedMemory.Create(Bytes);
        string begin = memory.Address.ToString("x", CultureInfo.InvariantCulture) + "-";
        string mapped = File.ReadLines("/proc/self/smaps")
            .SkipWhile(line => !line.StartsWith(begin, StringComparison.Ordinal))
            .First(line => line.StartsWith("ShmemPmdMapped:", StringComparison.Ordinal));
        memory.Release();
        // The kernel may have too little memory in one piece for all of them.
        Assert.InRange(int.Parse(mapped.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture), HugePage / 1024, Bytes / 1024);
    }

    private static SafeFileHandle Duplicate(SharedMemory memory) =>
        File.OpenHandle($"/proc/self/fd/{memory.Descriptor.DangerousGetHandle()}", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

    private static IEnumerable<Mapping> Mappings() => File.ReadLines("/proc/self/maps").Select(Mapping.Parse);

    private sealed record Mapping(nint Begin, nint End, bool IsArena, bool IsReserved)
    {
        public static Mapping Parse(string line)
        {
            string[] parts = line.Split(' ', StringSplitOptions.RemoveEmptyEntries), range = parts[0].Split('-');
            return new Mapping(
                nint.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture),
                nint.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture),
                IsArena: line.Contains("switchyard-arena", StringComparison.Ordinal),
                IsReserved: parts[1] == "---p" && parts.Length == 5);
        }
    }
}

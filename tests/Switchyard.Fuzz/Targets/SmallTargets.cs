using System.Text;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Protocol;
using Switchyard.Rendezvous;
using Switchyard.Transports;

namespace Switchyard.Fuzz.Targets;

/// <summary>A word, and an epoch near which it is read.</summary>
internal sealed class EpochWordTarget : Target
{
    public override IEnumerable<byte[]> Seeds()
    {
        foreach (long epoch in new[] { 0L, 1, 2, (1L << 39) - 1, 1L << 39 })
            yield return new InputWriter().UInt64(new EpochWord(epoch, 7).Bits).UInt64((ulong)epoch).ToArray();
    }

    public override void Run(byte[] input)
    {
        var reader = new InputReader(input);
        var word = new EpochWord(reader.UInt64());
        long reference = (long)(reader.UInt64() >> 2);
        long epoch = word.EpochNear(reference);
        Require(word.HasReached(reference) == epoch >= reference, "reached is what is not before");
        Require(Math.Abs(epoch - reference) <= 1L << 38, "the epoch is the nearest");
        Require(word.Count is >= 0 and <= Limits.MaxRowsPerPeer, "a count is within its bits");
        Require(new EpochWord(epoch, word.Count) == word == word.IsWhole, "epoch and count make the word, if it is whole");
    }
}

/// <summary>The first line of an arena that a peer shared.</summary>
internal sealed unsafe class ArenaHeaderTarget : Target
{
    private static readonly ArenaLayout _layout = new(3, 6, 2, 8, ElementType.Single, 1 << 12);
    private readonly SharedMemory _arena = SharedMemory.Create(_layout.TotalBytes);

    public override IEnumerable<byte[]> Seeds()
    {
        ArenaHeader.Write(_arena, 2, 7, _layout);
        yield return Header.ToArray();
    }

    public override void Run(byte[] input)
    {
        ArenaHeader.Write(_arena, 2, 7, _layout);
        byte[] genuine = Header.ToArray(), given = new InputReader(input).Bytes(ArenaLayout.LineBytes);
        given.CopyTo(Header);
        const int Fields = 48; // the rest of the line is reserved
        Require(ArenaHeader.Matches(_arena, 2, 7, _layout) == given.AsSpan(0, Fields).SequenceEqual(genuine.AsSpan(0, Fields)), "a header matches if each field does");
    }

    protected override void Close() => _arena.Release();

    private Span<byte> Header => new((byte*)_arena.Address, ArenaLayout.LineBytes);
}

/// <summary>A token file.</summary>
internal sealed class TokenFileTarget : FileTarget
{
    public override IEnumerable<byte[]> Seeds()
    {
        string digits = string.Concat(Enumerable.Repeat("0123456789abcdef", 4));
        foreach (string text in new[] { digits, digits + "\n", digits.ToUpperInvariant(), digits[1..], digits + "0", "" }) yield return Encoding.UTF8.GetBytes(text);
    }

    public override void Run(byte[] input)
    {
        Write(FilePath, input);
        File.SetUnixFileMode(FilePath, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        try
        {
            JobToken.Read(FilePath).Prove("role"u8, "hello"u8, "challenge"u8, new byte[JobToken.ProofBytes]);
        }
        catch (JoinException expected)
        {
            Require(expected.Message.Contains(FilePath, StringComparison.Ordinal), "the error names the file");
        }
    }
}

/// <summary>What a rank reads from its environment: a text a variable.</summary>
internal sealed class EnvironmentTarget : Target
{
    private static readonly string[] _names =
    [
        "SWITCHYARD_RANK", "SWITCHYARD_WORLD_SIZE", "SWITCHYARD_JOB", "SWITCHYARD_JOIN_TIMEOUT", "SWITCHYARD_DIRECTORY", "SWITCHYARD_TOKEN_FILE",
    ];

    public override IEnumerable<byte[]> Seeds()
    {
        foreach (string[] values in new string[][] { ["0", "2"], ["1", "64", "job.x-1", "60", "/tmp", "/tmp/token"], ["-1", "2"], ["1", "65"], ["1", "2", "a/b"], ["0", "1", "j", "2147483647"] })
        {
            var writer = new InputWriter();
            foreach (string value in values) writer.Text(value);
            yield return writer.ToArray();
        }
    }

    public override void Run(byte[] input)
    {
        var reader = new InputReader(input);
        foreach (string name in _names) Environment.SetEnvironmentVariable(name, reader.Text());
        try
        {
            ExpertGroupOptions options = ExpertGroupOptions.FromEnvironment();
            options.Validate();
            Require(options.Rank >= 0 && options.Rank < options.Size && options.Size <= Limits.MaxRanks && options.JoinTimeout > TimeSpan.Zero, "what is valid can be joined with");
            Require(!options.Job.Contains('/', StringComparison.Ordinal), "a job's name is no path");
        }
        catch (Exception expected) when (expected is InvalidOperationException or ArgumentException)
        {
            Require(expected.Message.Contains("SWITCHYARD_", StringComparison.Ordinal), "the error names the variable");
        }
    }
}

/// <summary>The kernel's files on memory: control groups of the process, then what each file of a group holds, then what is available.</summary>
internal sealed class MemoryLimitsTarget : FileTarget
{
    public override IEnumerable<byte[]> Seeds()
    {
        yield return Input("MemTotal: 10 kB\nMemAvailable:    1000000 kB\n", "0::/\n", "max\n", "1\n");
        yield return Input("MemAvailable: 1000000 kB\n", "0::/a/b\n", "500000000\n", "400000000\n");
        yield return Input("MemAvailable: 1000000 kB\n", "12:cpu,memory:/a\n3:cpuset:/\n1:name=systemd:/x\n", "9223372036854771712\n", "5\n");
        yield return Input("MemFree: 1 kB\n", "\n", "", "");
        yield return Input("MemAvailable: 1000000 kB\n", "0::/../..\n", "5\n", "6\n");
    }

    public override void Run(byte[] input)
    {
        var reader = new InputReader(input);
        foreach (string file in new[] { "proc/meminfo", "proc/self/cgroup" }) Write(Path.Combine(Folder, file), reader.Bytes(reader.Byte()));
        byte[] limit = reader.Bytes(reader.Byte()), usage = reader.Bytes(reader.Byte());
        foreach (string group in new[] { "", "memory/", "memory/a/" })
        {
            Write(Path.Combine(Folder, $"sys/fs/cgroup/{group}memory.max"), limit);
            Write(Path.Combine(Folder, $"sys/fs/cgroup/{group}memory.limit_in_bytes"), limit);
            Write(Path.Combine(Folder, $"sys/fs/cgroup/{group}memory.current"), usage);
            Write(Path.Combine(Folder, $"sys/fs/cgroup/{group}memory.usage_in_bytes"), usage);
        }
        Require(MemoryLimits.AvailableBytes(Folder) >= 0, "what is available is no less than nothing");
    }

    private static byte[] Input(params string[] texts)
    {
        var writer = new InputWriter();
        foreach (string text in texts) writer.Text(text);
        return writer.ToArray();
    }
}

/// <summary>An input that lies in a file, in memory.</summary>
internal abstract class FileTarget : Target
{
    protected string Folder { get; } = Directory.CreateDirectory($"/dev/shm/switchyard-fuzz-{Environment.ProcessId}").FullName;

    protected string FilePath => Path.Combine(Folder, "file");

    protected static void Write(string path, byte[] bytes)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
    }

    protected override void Close()
    {
        Directory.Delete(Folder, recursive: true);
        base.Close();
    }
}

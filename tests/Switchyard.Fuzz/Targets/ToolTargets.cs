using System.Globalization;
using System.Text;
using System.Text.Json;
using Switchyard.Cli;
using Switchyard.Cli.Bench;
using Switchyard.Cli.Bench.Report;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cli.Launch;

namespace Switchyard.Fuzz.Targets;

/// <summary>The note that a rank left for its launcher about the rank it blames.</summary>
internal sealed class FaultNoteTarget : FileTarget
{
    private readonly JobDirectory _directory;
    private readonly FaultNotes _notes;

    public FaultNoteTarget()
    {
        var options = new LaunchOptions
        {
            Ranks = 3,
            Job = "job",
            Directory = Folder,
            TokenFile = FilePath,
            Grace = TimeSpan.FromSeconds(1),
            Prefix = false,
            Command = ["true"],
        };
        _directory = JobDirectory.Create(options, JobDirectory.PrivatePathFor(options));
        _notes = new FaultNotes(options, _directory);
    }

    public override IEnumerable<byte[]> Seeds()
    {
        foreach (string text in new[] { "2\nLost rank 2.\n", "1\nitself\n", "3\nbeyond\n", "2\n", "-2\nx", "2\n\u001b[31mred\u0007\u0085\n" }) yield return Encoding.UTF8.GetBytes(text);
    }

    public override void Run(byte[] input)
    {
        Write(Path.Combine(Folder, "job.fault.1"), input);
        if (_notes.By(1) is not { } note) return;
        Require(note.Culprit is 0 or 2, "a note blames another rank of the job");
        Require(!note.Message.Any(char.IsControl), "what is printed does nothing to a terminal");
    }

    protected override void Close()
    {
        _notes.Dispose();
        _directory.Dispose();
        base.Close();
    }
}

/// <summary>What a rank reports to the bench that started it.</summary>
internal sealed class RankResultTarget : FileTarget
{
    private const int Repetitions = 3;

    private static readonly Job _job = new(
        new Shape { Ranks = 1, Processes = true, Tokens = 2, Hidden = 8, TopK = 1, Experts = 2, Element = "bf16", Layout = RowLayout.RankMajor, Routing = "one-hot" },
        Repetitions,
        Warmup: 1);

    public override IEnumerable<byte[]> Seeds()
    {
        Interval[] intervals = [.. Enumerable.Range(1, Repetitions).Select(i => new Interval(i * 100, (i * 100) + 50))];
        var result = new RankResult { Dispatch = intervals, Combine = intervals, Copies = [intervals, intervals], CopyBytes = 1000, AllocatedBytes = 0, Device = "here", Driver = "1" };
        yield return JsonSerializer.SerializeToUtf8Bytes(result, BenchJson.Default.RankResult);
        yield return JsonSerializer.SerializeToUtf8Bytes(result with { Combine = intervals[1..], Difference = "none" }, BenchJson.Default.RankResult);
        yield return "null"u8.ToArray();
        yield return "{}"u8.ToArray();
    }

    public override void Run(byte[] input)
    {
        Write(Path.Combine(Folder, "rank-0.json"), input);
        try
        {
            var measurement = Measurement.Of(_job, new JobFolder(Folder).ReadResults(_job));
            JsonSerializer.Serialize(measurement, BenchJson.Default.Measurement);
        }
        catch (InvalidDataException expected)
        {
            Require(expected.Message.Contains("rank 0", StringComparison.Ordinal), "the error names the rank");
        }
    }
}

/// <summary>A file of choices that the bench routes by.</summary>
internal sealed class RoutingFileTarget : FileTarget
{
    private const int Experts = 12;
    private const int TopK = 2;

    public override IEnumerable<byte[]> Seeds()
    {
        foreach (string text in new[] { "0 1\n2 3\n", "-1 -1\n 11\t10 \n", "0 0\n", "12 0\n", "0\n", "", "0 1\r\n", "\n\n" }) yield return Encoding.UTF8.GetBytes(text);
    }

    public override void Run(byte[] input)
    {
        Write(FilePath, input);
        try
        {
            var routing = Routing.Named("file:" + FilePath, Experts, TopK);
            Span<int> choices = stackalloc int[TopK];
            SplitMix random = default;
            for (int token = 0; token < 5; token++)
            {
                routing.Choose(ref random, token, choices);
                foreach (int choice in choices) Require(choice is >= -1 and < Experts, "choices are experts");
                Require(choices[0] != choices[1] || choices[0] < 0, "the experts of a token differ");
            }
        }
        catch (UsageException expected)
        {
            Require(expected.Message.Contains(FilePath, StringComparison.Ordinal), string.Create(CultureInfo.InvariantCulture, $"the error names the file: {expected.Message}"));
        }
    }
}

using System.Text.Json;
using System.Text.Json.Serialization;

namespace Switchyard.Cli.Bench.Work;

/// <summary>What the ranks of one run are told.</summary>
internal sealed record Job(Shape Shape, int Repetitions, int Warmup)
{
    private const int CopySamples = 16;

    /// <summary>
    /// Before each so many repetitions the copy is measured: a machine that changes its speed then does so to both of a pair, the copy and the
    /// repetition after it.
    /// </summary>
    [JsonIgnore]
    public int RepetitionsACopy => Math.Max(1, (Repetitions - 1) / CopySamples);
}

/// <summary>
/// When something began and ended, in ticks of <see cref="System.Diagnostics.Stopwatch"/>: the clock is the machine's, the same in all
/// processes.
/// </summary>
internal readonly record struct Interval(long Start, long End)
{
    /// <summary>
    /// From the first start to the last end: on a crowded machine a rank may be done before another gets a core to start on.
    /// </summary>
    public static long TicksOfAll(IEnumerable<Interval> ranks) => ranks.Max(rank => rank.End) - ranks.Min(rank => rank.Start);
}

/// <summary>What one rank measured; an interval a repetition or sample.</summary>
internal sealed record RankResult
{
    public required Interval[] Dispatch { get; init; }
    public required Interval[] Combine { get; init; }
    public required Interval[] Memcpy { get; init; }
    public required Interval[] Stream { get; init; }

    /// <summary>Bytes that this rank copied in each sample.</summary>
    public required long CopyBytes { get; init; }

    /// <summary>By the thread that made the calls, in all repetitions.</summary>
    public required long AllocatedBytes { get; init; }

    /// <summary>What was wrong with what it got; null if nothing.</summary>
    public string? Difference { get; init; }
}

/// <summary>Where the tool and its ranks leave notes for each other. What it made, it removes.</summary>
internal sealed class JobFolder(string path) : IDisposable
{
    public string Path => path;

    public string StartLine => System.IO.Path.Combine(path, "start-line");

    public static JobFolder Create(Job job)
    {
        var folder = new JobFolder(Directory.CreateTempSubdirectory("switchyard-bench-").FullName);
        Work.StartLine.Prepare(folder.StartLine, job.Shape.Ranks);
        File.WriteAllBytes(folder.JobFile, JsonSerializer.SerializeToUtf8Bytes(job, BenchJson.Default.Job));
        return folder;
    }

    public Job ReadJob() => JsonSerializer.Deserialize(File.ReadAllBytes(JobFile), BenchJson.Default.Job)!;

    public void Write(int rank, RankResult result) =>
        File.WriteAllBytes(ResultOf(rank), JsonSerializer.SerializeToUtf8Bytes(result, BenchJson.Default.RankResult));

    public RankResult[] ReadResults(int ranks) => [.. Enumerable.Range(0, ranks).Select(Read)];

    public void Dispose() => Directory.Delete(path, recursive: true);

    private RankResult Read(int rank) => JsonSerializer.Deserialize(File.ReadAllBytes(ResultOf(rank)), BenchJson.Default.RankResult)!;

    private string JobFile => System.IO.Path.Combine(path, "job.json");

    private string ResultOf(int rank) => System.IO.Path.Combine(path, $"rank-{rank}.json");
}

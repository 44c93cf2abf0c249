using System.Text.Json;
using System.Text.Json.Serialization;
using Switchyard.Cli.Bench.Report;

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

    /// <summary>How often it is measured; not before the repetition that is checked.</summary>
    [JsonIgnore]
    public int Copies => (Repetitions - 1 + RepetitionsACopy - 1) / RepetitionsACopy;

    /// <summary>How many ways of copying a rank tries: of the ranks that share a device, the first copies.</summary>
    public int CopyKinds(int rank) => Shape.Devices is null ? 2 : rank < Shape.Devices.Count ? 1 : 0;
}

/// <summary>
/// When something began and ended, in ticks of <see cref="System.Diagnostics.Stopwatch"/>. The host's clock is the same in all processes, a
/// device's for all that runs on it; where ranks are on several devices, each rank's times are told from its own start.
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

    /// <summary>By the way of copying, an interval a sample.</summary>
    public required Interval[][] Copies { get; init; }

    /// <summary>Bytes that this rank copied in each sample.</summary>
    public required long CopyBytes { get; init; }

    /// <summary>By the thread that made the calls, in all repetitions.</summary>
    public required long AllocatedBytes { get; init; }

    /// <summary>What a dispatch took the host to enqueue, in ticks; none where it does the work itself.</summary>
    public long[] HostDispatch { get; init; } = [];

    /// <inheritdoc cref="HostDispatch"/>
    public long[] HostCombine { get; init; } = [];

    /// <summary>By the turn, when the parts of a dispatch ended (<see cref="Stage.TimeParts"/>); none where they cannot be told apart.</summary>
    public long[][] Parts { get; init; } = [];

    /// <summary>On what it ran.</summary>
    public required string Device { get; init; }

    /// <summary>The version of what runs that.</summary>
    public required string Driver { get; init; }

    /// <summary>What was wrong with what it got; null if nothing.</summary>
    public string? Difference { get; init; }

    /// <summary>Whether a rank that did the job can have measured this.</summary>
    public bool Fits(Job job, int rank) =>
        IsWhole(Dispatch, job.Repetitions) && IsWhole(Combine, job.Repetitions)
        && Copies?.Length == job.CopyKinds(rank) && Array.TrueForAll(Copies, copies => IsWhole(copies, job.Copies)) && CopyBytes > 0 == Copies.Length > 0
        && AllocatedBytes >= 0 && IsEach(HostDispatch) && IsEach(HostCombine) && HostDispatch.Length > 0 == job.Shape.Devices is not null
        && HostCombine.Length == HostDispatch.Length
        && Parts?.Length == (job.Shape.Devices is null ? 0 : DispatchParts.Turns) && Array.TrueForAll(Parts, DispatchParts.IsWhole) && Device is not null && Driver is not null;

    private static bool IsEach(long[]? ticks) => ticks is not null && Array.TrueForAll(ticks, each => each > 0);

    private static bool IsWhole(Interval[]? intervals, int count) =>
        intervals?.Length == count && Array.TrueForAll(intervals, each => each.Start >= 0 && each.End > each.Start && Percentiles.Microseconds(each.End - each.Start) > 0);
}

/// <summary>Where the tool and its ranks leave notes for each other. What it made, it removes.</summary>
internal sealed class JobFolder(string path) : IDisposable
{
    public string Path => path;

    public string StartLine => System.IO.Path.Combine(path, "start-line");

    /// <summary>Makes one in the run's folder for temporary files.</summary>
    public static JobFolder Create(string scratch, Job job)
    {
        var folder = new JobFolder(System.IO.Path.Combine(scratch, "job"));
        Directory.CreateDirectory(folder.Path);
        Work.StartLine.Prepare(folder.StartLine, job.Shape.Ranks);
        File.WriteAllBytes(folder.JobFile, JsonSerializer.SerializeToUtf8Bytes(job, BenchJson.Default.Job));
        return folder;
    }

    public Job ReadJob() => JsonSerializer.Deserialize(File.ReadAllBytes(JobFile), BenchJson.Default.Job)!;

    public void Write(int rank, RankResult result) =>
        File.WriteAllBytes(ResultOf(rank), JsonSerializer.SerializeToUtf8Bytes(result, BenchJson.Default.RankResult));

    /// <exception cref="InvalidDataException">A rank left none, or one that does not fit the job.</exception>
    public RankResult[] ReadResults(Job job) => [.. Enumerable.Range(0, job.Shape.Ranks).Select(rank => Read(job, rank))];

    public void Dispose() => Directory.Delete(path, recursive: true);

    private RankResult Read(Job job, int rank)
    {
        try
        {
            RankResult? result = JsonSerializer.Deserialize(File.ReadAllBytes(ResultOf(rank)), BenchJson.Default.RankResult);
            return result is not null && result.Fits(job, rank) ? result : throw new InvalidDataException($"What rank {rank} reported does not fit the job.");
        }
        catch (Exception failure) when (failure is JsonException or IOException)
        {
            throw new InvalidDataException($"What rank {rank} reported cannot be read: {failure.Message}", failure);
        }
    }

    private string JobFile => System.IO.Path.Combine(path, "job.json");

    private string ResultOf(int rank) => System.IO.Path.Combine(path, $"rank-{rank}.json");
}

using System.Globalization;

namespace Switchyard.Cli.Launch;

/// <summary>What is said at the end: nothing after a success, else the root cause, its last errors, who blamed whom, and the others in a line.</summary>
internal sealed class Summary(Supervisor job, FaultNotes notes, MemoryKills kills, Output output)
{
    public int Print()
    {
        if (job.FirstFailure is not { } first)
            return 0;
        return job.StoppedBy is { } signal ? PrintStopped(signal, first) : PrintFailed(first);
    }

    private int PrintStopped(Signal signal, RankEnd first)
    {
        output.Say($"root cause: stopped by {signal}");
        PrintEnds("ranks", job.Ends, first);
        return first.ExitCode;
    }

    private int PrintFailed(RankEnd first)
    {
        var cause = RootCause.Find(first, job.Ends, notes);
        RankEnd root = cause.End;
        output.Say($"root cause: {root.Process.Name}{Fate(root, first)}{Killer(root)}");
        if (job.RankCount > 1)
            PrintLastErrors(root.Process);
        foreach ((RankEnd blamer, FaultNote note) in cause.Chain)
            output.Say($"  rank {blamer.Process.Rank} {(blamer == first ? "ended first because it blamed" : "blamed")} rank {note.Culprit}: {note.Message}");
        PrintEnds("others", [.. job.Ends.Where(end => end != root)], root);
        if (job.WentOn)
            return 0;
        return root.Failed && !job.HasSignalled(root) ? root.ExitCode : first.ExitCode;
    }

    private string Fate(RankEnd root, RankEnd first)
    {
        if (job.HasSignalled(root))
            return $" was still running and did not answer, {How(root)}";
        if (root.Failed)
            return $", {root.How}";
        return $" {(root.At < first.At ? "had left" : "left")} with {root.How}";
    }

    /// <summary>Whose SIGKILL it may have been, if it was not ours.</summary>
    private string Killer(RankEnd root)
    {
        if (root.KilledBy != Signal.Kill || WasSentByUs(root))
            return "";
        return kills.Count switch
        {
            null => ", perhaps by the kernel for want of memory",
            0 => " from outside, not for want of memory",
            { } count => $"; meanwhile the kernel killed {count} {(count == 1 ? "process" : "processes")} for want of memory: give the ranks less to hold "
                + "(ExpertBufferOptions.MemoryBudget), or raise the memory limit of their control group or the machine's memory",
        };
    }

    private void PrintLastErrors(RankProcess rank)
    {
        foreach (byte[] line in rank.LastErrors)
            output.Repeat(line);
    }

    /// <summary>Ranks that ended alike together, in the order of their first.</summary>
    private void PrintEnds(string who, IReadOnlyList<RankEnd> ends, RankEnd reference)
    {
        if (ends.Count > 0)
            output.Say($"  {who}: {string.Join("; ", ends.GroupBy(How).Select(alike => Describe(alike.Key, [.. alike], reference)))}");
    }

    private static string Describe(string how, RankEnd[] alike, RankEnd reference)
    {
        string Since(RankEnd end) => string.Create(CultureInfo.InvariantCulture, $"{(end.At - reference.At).TotalSeconds:+0.000;-0.000} s");
        string when = alike.Length == 1 ? Since(alike[0]) : $"{Since(alike[0])} to {Since(alike[^1])}";
        return $"{RankNumbers.Of(alike.Select(end => end.Process.Rank))}: {how}, {when}";
    }

    private string How(RankEnd end) => WasSentByUs(end) ? $"{end.How} sent by switchyard" : end.How;

    private bool WasSentByUs(RankEnd end) => end.KilledBy is { } signal && job.Sent.Contains((end.Process, signal));
}

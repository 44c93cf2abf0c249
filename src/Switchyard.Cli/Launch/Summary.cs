using System.Globalization;

namespace Switchyard.Cli.Launch;

/// <summary>What is said at the end: nothing after a success, else the root cause first and then how the others ended, in order.</summary>
internal sealed class Summary(Supervisor job, FaultNotes notes, Output output)
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
        PrintEnds(job.Ends, first);
        return first.ExitCode;
    }

    private int PrintFailed(RankEnd first)
    {
        var cause = RootCause.Find(first, job.Ends, notes);
        RankEnd root = cause.End;
        output.Say($"root cause: {root.Process.Name}{Fate(root, first)}");
        if (job.RankCount > 1)
            PrintLastErrors(root.Process);
        foreach ((RankEnd blamer, FaultNote note) in cause.Chain)
            output.Say($"  rank {blamer.Process.Rank} {(blamer == first ? "ended first because it blamed" : "blamed")} rank {note.Culprit}: {note.Message}");
        PrintEnds(job.Ends.Where(end => end != root), root);
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

    private void PrintLastErrors(RankProcess rank)
    {
        foreach (byte[] line in rank.LastErrors)
            output.Write(toError: true, line);
    }

    private void PrintEnds(IEnumerable<RankEnd> ends, RankEnd reference)
    {
        foreach (RankEnd end in ends)
        {
            double seconds = (end.At - reference.At).TotalSeconds;
            output.Say(string.Create(CultureInfo.InvariantCulture, $"  {end.Process.Name}: {How(end)}, {seconds:+0.000;-0.000} s"));
        }
    }

    private string How(RankEnd end) => end.KilledBy is { } signal && job.Sent.Contains((end.Process, signal))
        ? $"{end.How} sent by switchyard"
        : end.How;
}

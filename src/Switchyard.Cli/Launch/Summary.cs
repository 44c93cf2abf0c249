using System.Globalization;

namespace Switchyard.Cli.Launch;

/// <summary>What is said at the end: nothing after a success, else the root cause first and then how the others ended, in order.</summary>
internal sealed class Summary(Supervisor job, Output output)
{
    public int Print()
    {
        if (job.FirstFailure is not { } first)
            return 0;
        output.Say(RootCause(first));
        if (job.StoppedBy is null && job.RankCount > 1)
            PrintLastErrors(first.Process);
        foreach (RankEnd end in job.Ends.Where(end => end != first || job.StoppedBy is not null))
            output.Say("  " + Line(end, first));
        return first.ExitCode;
    }

    private string RootCause(RankEnd first) => job.StoppedBy is { } signal
        ? $"root cause: stopped by {signal}"
        : $"root cause: {first.Process.Name}, {first.How}";

    private void PrintLastErrors(RankProcess rank)
    {
        foreach (byte[] line in rank.LastErrors)
            output.Write(toError: true, line);
    }

    private string Line(RankEnd end, RankEnd first)
    {
        string sender = end.KilledBy is { } signal && end.At >= first.At && job.Sent.Contains(signal) ? " sent by switchyard" : "";
        double seconds = (end.At - first.At).TotalSeconds;
        return string.Create(CultureInfo.InvariantCulture, $"{end.Process.Name}: {end.How}{sender}, {seconds:+0.000;-0.000} s");
    }
}

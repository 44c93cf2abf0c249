using Switchyard.Cli.Bench.Work;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cli.Bench.Report;

/// <summary>
/// When the last block of any rank had done each part of a dispatch, in microseconds since the ranks met; medians. To note the time takes a
/// microsecond each, so that all together takes longer than the dispatch that is timed as a whole.
/// </summary>
/// <param name="Begun">Its kernel runs.</param>
/// <param name="Counted">This rank's choices are counted, and told by one of its blocks.</param>
/// <param name="Heard">All ranks have told theirs.</param>
/// <param name="Agreed">Where each rank's rows begin is known, and that they fit.</param>
/// <param name="Placed">Where each row goes is known.</param>
/// <param name="Moved">The rows are where they go.</param>
/// <param name="Kept">So is what belongs to them.</param>
/// <param name="Signalled">All ranks have told that theirs are.</param>
internal sealed record DispatchParts(
    double Begun, double Counted, double Heard, double Agreed, double Placed, double Moved, double Kept, double Signalled)
{
    /// <summary>Dispatches that are looked at.</summary>
    public const int Turns = 20;

    private const int Parts = DispatchMarks.Count;

    /// <summary>Of the ranks' parts, by the turn.</summary>
    public static DispatchParts Of(RankResult[] ranks)
    {
        double[] medians = [.. Enumerable.Range(1, Parts).Select(part => Percentiles.Of(Enumerable.Range(0, Turns).Select(turn => Last(ranks, turn, part))).P50)];
        return new(medians[0], medians[1], medians[2], medians[3], medians[4], medians[5], medians[6], medians[7]);
    }

    /// <summary>Whether a rank can have measured this in a turn.</summary>
    public static bool IsWhole(long[]? turn) => turn is { Length: 1 + Parts } && turn[0] >= 0 && turn.AsSpan(1).IndexOfAnyInRange(long.MinValue, turn[0]) < 0;

    private static long Last(RankResult[] ranks, int turn, int part) => ranks.Max(rank => rank.Parts[turn][part]) - ranks.Min(rank => rank.Parts[turn][0]);
}

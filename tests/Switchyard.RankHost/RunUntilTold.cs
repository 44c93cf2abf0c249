using System.Globalization;
using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Steps until the file "enough" is there or a rank is late; prints which. The seed is the deadline in milliseconds.</summary>
internal static class RunUntilTold
{
    public const string Name = "run-until-told";

    private const int WarmUp = 50;

    public static async Task RunAsync(RankContext rank)
    {
        string folder = Environment.GetEnvironmentVariable("SWITCHYARD_DIRECTORY")!;
        using Steps steps = await Steps.CreateAsync(rank);
        // Only now: the first steps compile code, which may take its time.
        int step = 0;
        for (; step < WarmUp; step++) steps.Run(step);
        steps.Buffer.Deadline = TimeSpan.FromMilliseconds(rank.Seed);
        File.WriteAllText(Path.Combine(folder, $"stepping.{rank.Rank}"), "");
        try
        {
            while (!steps.Run(step, isLast: rank.Rank == 0 && File.Exists(Path.Combine(folder, "enough")))) step++;
            IEnumerable<double> waited = Enumerable.Range(0, rank.Group.Size).Select(peer => steps.Buffer.WaitedFor(peer).TotalMilliseconds);
            Console.WriteLine(FormattableString.Invariant($"through {step} {string.Join(' ', waited.Select(ms => ms.ToString("0", CultureInfo.InvariantCulture)))}"));
            await rank.Group.BarrierAsync();
        }
        catch (PeerTimeoutException late)
        {
            Console.WriteLine($"late {late.Peer.Rank} {late.Reporter} {late.Message}");
        }
    }
}

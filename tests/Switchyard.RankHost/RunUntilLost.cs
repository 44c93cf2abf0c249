using System.Diagnostics;
using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Steps until a peer is lost, then prints who it was, and when that was known. Only processes can be killed, so no conformance scenario.</summary>
internal static class RunUntilLost
{
    public const string Name = "run-until-lost";

    public static async Task RunAsync(RankContext rank)
    {
        var shape = new Shape(rank.Group.Size, 16, 4, 256, 64, RowLayout.ExpertMajor, 1, Routing.Uniform);
        using ExpertBuffer buffer = (await rank.CreateAsync<BFloat16>(shape)).Inner;
        BFloat16[] x = new BFloat16[64 * 256], output = new BFloat16[64 * 256];
        int[] choices = [.. Enumerable.Range(0, 64).SelectMany(token => Enumerable.Range(0, 4).Select(k => (token + (k * 4)) % 16))];
        try
        {
            for (int step = 0; ; step++)
            {
                using Dispatched d = buffer.Dispatch(x, choices, default, shape.Options);
                buffer.Combine(d.Rows, d.Handle, output);
                if (step == 20) File.WriteAllText(Path.Combine(Environment.GetEnvironmentVariable("SWITCHYARD_DIRECTORY")!, $"stepping.{rank.Rank}"), "");
            }
        }
        catch (PeerLostException lost)
        {
            Console.WriteLine($"lost {lost.Peer.Rank} {lost.Peer.ProcessId} {Stopwatch.GetTimestamp()} {lost.Message}");
        }
    }
}

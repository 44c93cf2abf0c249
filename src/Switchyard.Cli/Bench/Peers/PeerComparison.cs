using Switchyard.Cli.Bench.Report;

namespace Switchyard.Cli.Bench.Peers;

/// <summary>What a peer reports of one run.</summary>
internal sealed record PeerResult(long Rows, Percentiles DispatchUs, Percentiles CombineUs);

/// <summary>One run of ours and the peer's run right after it; a ratio above 1 says how many times longer the peer took.</summary>
internal sealed record Pair(Percentiles DispatchUs, Percentiles CombineUs, PeerResult Peer)
{
    public double DispatchRatio => Math.Round(Peer.DispatchUs.P50 / DispatchUs.P50, 3);

    public double CombineRatio => Math.Round(Peer.CombineUs.P50 / CombineUs.P50, 3);
}

/// <summary>Runs in turn with a peer, and the medians of their ratios.</summary>
internal sealed record PeerComparison(string Name, IReadOnlyList<Pair> Pairs)
{
    public double DispatchRatio => Median(Pairs.Select(pair => pair.DispatchRatio));

    public double CombineRatio => Median(Pairs.Select(pair => pair.CombineRatio));

    private static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}

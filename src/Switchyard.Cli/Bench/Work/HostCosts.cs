namespace Switchyard.Cli.Bench.Work;

/// <summary>What each of many calls took the host to enqueue, in ticks; those of the first turn warm up.</summary>
internal sealed class HostCosts
{
    /// <summary>Dispatches and combines of one turn: so few that the device's queue takes them all while another rank is yet to come.</summary>
    public const int Pairs = 16;

    public const int Turns = 5;

    private int _added;

    public long[] Dispatch { get; } = new long[(Turns - 1) * Pairs];

    public long[] Combine { get; } = new long[(Turns - 1) * Pairs];

    public void Add(long dispatch, long combine)
    {
        if (_added++ - Pairs is >= 0 and var at) (Dispatch[at], Combine[at]) = (dispatch, combine);
    }
}

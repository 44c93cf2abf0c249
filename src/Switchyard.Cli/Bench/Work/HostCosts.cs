namespace Switchyard.Cli.Bench.Work;

/// <summary>What each of many calls took the host to enqueue, in ticks; those of the first turns warm up.</summary>
internal sealed class HostCosts
{
    /// <summary>Dispatches and combines of one turn that count: so few that the device's queue takes them all while another rank is yet to come.</summary>
    public const int Pairs = 16;

    /// <summary>Those ahead of them in each turn: the first calls of a thread that has slept take several times as long.</summary>
    public const int Waking = 8;

    public const int Turns = 8;

    /// <summary>Turns before those that count, a pause ahead of each: together long enough for the runtime to compile what is called often.</summary>
    public const int WarmUps = 32;

    public static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    private int _turn;
    private int _pair;

    public long[] Dispatch { get; } = new long[Turns * Pairs];

    public long[] Combine { get; } = new long[Turns * Pairs];

    public void Add(long dispatch, long combine)
    {
        if (_turn >= WarmUps && _pair >= Waking)
        {
            int at = ((_turn - WarmUps) * Pairs) + _pair - Waking;
            (Dispatch[at], Combine[at]) = (dispatch, combine);
        }
        if (++_pair < Waking + Pairs) return;
        _pair = 0;
        _turn++;
    }
}

namespace Switchyard.Cli.Bench;

/// <summary>
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a few operations a number, and every
/// (rank, token) has a stream of its own, so that any rank can draw any other's data again.
/// </summary>
internal struct SplitMix
{
    private const ulong Step = 0x9E37_79B9_7F4A_7C15;

    private ulong _state;

    /// <param name="purpose">Keeps what is drawn for different purposes apart.</param>
    /// <param name="rank">A rank.</param>
    /// <param name="token">One of its tokens.</param>
    public SplitMix(ulong purpose, int rank, int token)
    {
        _state = Mix(purpose + Step);
        _state = Mix(_state + (((ulong)(uint)rank << 32) | (uint)token) + Step);
    }

    public ulong Next() => Mix(_state += Step);

    /// <summary>Uniform in (0, 1).</summary>
    public double NextDouble() => ((Next() >> 12) + 0.5) * (1.0 / (1UL << 52));

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9;
        z = (z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB;
        return z ^ (z >> 31);
    }
}

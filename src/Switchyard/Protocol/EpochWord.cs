namespace Switchyard.Protocol;

/// <summary>
/// A word that one rank writes and another polls: 40 bits of epoch above 24 bits of count. Epochs are compared by signed difference,
/// so that they may wrap. A fresh arena's zero is epoch 0, before every call.
/// </summary>
internal readonly record struct EpochWord(ulong Bits)
{
    private const int CountBits = 24;

    public EpochWord(long epoch, int count = 0)
        : this(((ulong)epoch << CountBits) | (uint)count)
    {
    }

    public int Count => (int)(Bits & ((1 << CountBits) - 1));

    /// <summary>Whether this word's epoch is <paramref name="epoch"/> or later.</summary>
    public bool HasReached(long epoch) => Difference(epoch) >= 0;

    /// <summary>The full epoch, given one that it lies within 2³⁹ of.</summary>
    public long EpochNear(long reference) => reference + Difference(reference);

    private long Difference(long epoch) => (long)(Bits - ((ulong)epoch << CountBits)) >> CountBits;
}

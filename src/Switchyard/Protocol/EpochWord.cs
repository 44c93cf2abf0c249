using System.Numerics;

namespace Switchyard.Protocol;

/// <summary>
/// A word that one rank writes and another polls: 24 bits of count, 39 bits of epoch, and above them the bit that makes the number of ones even:
/// a word of which one bit was changed is none. Epochs are compared by signed difference, so that they may wrap. A fresh arena's zero is epoch 0,
/// before every call.
/// </summary>
internal readonly record struct EpochWord(ulong Bits)
{
    private const int CountBits = 24;
    private const ulong ParityBit = 1UL << 63;

    public EpochWord(long epoch, int count = 0)
        : this(WithParity((((ulong)epoch << CountBits) | (uint)count) & ~ParityBit))
    {
    }

    public int Count => (int)(Bits & ((1 << CountBits) - 1));

    /// <summary>Whether its writer can have written it.</summary>
    public bool IsWhole => (BitOperations.PopCount(Bits) & 1) == 0;

    /// <summary>Whether this word's epoch is <paramref name="epoch"/> or later.</summary>
    public bool HasReached(long epoch) => Difference(epoch) >= 0;

    /// <summary>The full epoch, given one that it lies within 2³⁸ of.</summary>
    public long EpochNear(long reference) => reference + Difference(reference);

    /// <summary>The parity bit is shifted out.</summary>
    private long Difference(long epoch) => (long)((Bits << 1) - ((ulong)epoch << (CountBits + 1))) >> (CountBits + 1);

    private static ulong WithParity(ulong word) => word | ((ulong)(BitOperations.PopCount(word) & 1) << 63);
}

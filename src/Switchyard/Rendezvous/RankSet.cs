using System.Collections;
using System.Numerics;

namespace Switchyard.Rendezvous;

/// <summary>A set of ranks of one group, a bit each.</summary>
internal readonly record struct RankSet(ulong Bits) : IEnumerable<int>
{
    public bool IsEmpty => Bits == 0;

    /// <summary>The ranks from 0 up to this many.</summary>
    public static RankSet AllOf(int size) => new(size == Limits.MaxRanks ? ulong.MaxValue : (1ul << size) - 1);

    public static RankSet Of(IEnumerable<int> ranks) => ranks.Aggregate(default(RankSet), (set, rank) => set.With(rank));

    public bool Contains(int rank) => (Bits >> rank & 1) != 0;

    public RankSet With(int rank) => new(Bits | 1ul << rank);

    public RankSet With(RankSet others) => new(Bits | others.Bits);

    public RankSet Without(RankSet others) => new(Bits & ~others.Bits);

    public IEnumerator<int> GetEnumerator()
    {
        for (ulong left = Bits; left != 0; left &= left - 1) yield return BitOperations.TrailingZeroCount(left);
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    public override string ToString() => string.Join(", ", this);
}

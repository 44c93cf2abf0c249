namespace Switchyard.Rendezvous;

/// <summary>
/// A set of ranks that are out, as this rank sees it, and what it has heard that the others see. Sets only grow, and each rank tells the others
/// when its own has; so they become equal as soon as nobody learns anything new.
/// </summary>
internal sealed class Accord(int rank, int size)
{
    private readonly RankSet?[] _heard = new RankSet?[size];

    public RankSet Out { get; private set; }

    /// <summary>The ranks that are not out, this one included.</summary>
    public RankSet Members => RankSet.AllOf(size).Without(Out);

    /// <summary>The members that have not said the same as this rank.</summary>
    public RankSet Missing
    {
        get
        {
            RankSet said = Out;
            return RankSet.Of(Members.Where(member => member != rank && _heard[member] != said));
        }
    }

    /// <summary>Takes ranks for out; false where they were already.</summary>
    public bool Add(RankSet ranks)
    {
        RankSet before = Out;
        Out = before.With(ranks);
        return Out != before;
    }

    public void Hear(int peer, RankSet ranks) => _heard[peer] = ranks;

    public bool HasHeard(int peer) => _heard[peer] is not null;

    /// <summary>All that has been heard to be out, from whomever, but for what would put this rank out: that is for the others to do.</summary>
    public RankSet Claims => _heard.Aggregate(
        default(RankSet), (all, heard) => heard is { } ranks && !ranks.Contains(rank) ? all.With(ranks) : all);
}

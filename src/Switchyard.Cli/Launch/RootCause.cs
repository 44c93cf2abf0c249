namespace Switchyard.Cli.Launch;

/// <summary>The rank at the end of a chain of blame that begins with the rank that failed first, and that chain.</summary>
internal sealed record RootCause(RankEnd End, IReadOnlyList<(RankEnd Blamer, FaultNote Note)> Chain)
{
    public static RootCause Find(RankEnd first, IReadOnlyList<RankEnd> ends, FaultNotes notes)
    {
        var chain = new List<(RankEnd, FaultNote)>();
        var visited = new HashSet<RankEnd> { first };
        RankEnd end = first;
        while (notes.By(end.Process.Rank) is { } note)
        {
            chain.Add((end, note));
            RankEnd culprit = ends.First(other => other.Process.Rank == note.Culprit);
            if (!visited.Add(culprit))
                break;
            end = culprit;
        }
        return new RootCause(end, chain);
    }
}

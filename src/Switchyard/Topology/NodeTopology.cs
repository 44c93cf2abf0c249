namespace Switchyard.Topology;

/// <summary>Which ranks share a node, that is, can map each other's memory. Nodes are numbered by their lowest rank.</summary>
internal sealed class NodeTopology
{
    private readonly int[] _nodeOf;
    private readonly int[] _localIndexOf;

    public NodeTopology(IReadOnlyList<PeerInfo> peers)
    {
        _nodeOf = new int[peers.Count];
        _localIndexOf = new int[peers.Count];
        var nodes = new Dictionary<int, int>();
        var sizes = new List<int>();
        foreach (PeerInfo peer in peers)
        {
            if (!nodes.TryGetValue(peer.Node, out int node))
            {
                nodes[peer.Node] = node = nodes.Count;
                sizes.Add(0);
            }
            _nodeOf[peer.Rank] = node;
            _localIndexOf[peer.Rank] = sizes[node]++;
        }
        Nodes = nodes.Count;
    }

    public int Nodes { get; }

    public int NodeOf(int rank) => _nodeOf[rank];

    /// <summary>A rank's place among the ranks of its node, by rank.</summary>
    public int LocalIndexOf(int rank) => _localIndexOf[rank];

    public bool CanMap(int rank, int other) => _nodeOf[rank] == _nodeOf[other];
}

using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Rendezvous;

namespace Switchyard.Transports;

/// <summary>The contract within a node: memory that peers map, and the engine that runs the phases of a call in it.</summary>
internal interface IScaleUpTransport
{
    /// <summary>Checks, before any rank of this machine allocates, that all their arenas fit.</summary>
    /// <exception cref="TransportException">They do not.</exception>
    void RequireRoom(long bytes, int arenas);

    /// <summary>Fresh memory, zeroed and of a fixed size, that peers can map.</summary>
    /// <exception cref="TransportException">The system has not that much.</exception>
    ArenaMemory Allocate(long bytes);

    /// <summary>Maps what a peer allocated.</summary>
    ArenaMemory Map(ArenaExport export);

    /// <summary>An engine for one buffer. It holds a reference to each arena until disposed.</summary>
    IScaleUpEngine CreateEngine(EngineSetup setup);
}

/// <summary>What an engine is made from.</summary>
/// <param name="Channel">The group as this rank sees it.</param>
/// <param name="Layout">Where things lie in every arena.</param>
/// <param name="Arenas">All ranks' arenas, mapped, by rank.</param>
/// <param name="Options">What the buffer was made with.</param>
/// <param name="Neighbours">The ranks that share processors with this one, itself included.</param>
internal sealed record EngineSetup(GroupChannel Channel, ArenaLayout Layout, ArenaMemory[] Arenas, ExpertBufferOptions Options, int Neighbours);

/// <summary>
/// The phases of a call, in the order in which <see cref="ExpertBuffer"/> calls them. A host engine does each phase and returns; a
/// device engine may enqueue it. Waits end by the deadline in a <see cref="SwitchyardException"/> that all ranks share.
/// </summary>
internal interface IScaleUpEngine : IDisposable
{
    /// <summary>How long a wait for a peer may take.</summary>
    TimeSpan Deadline { get; set; }

    /// <summary>Throws the fault that broke this engine, if any.</summary>
    void ThrowIfBroken();

    /// <summary>Waits until every peer has finished reading in combine <paramref name="epoch"/>.</summary>
    void AwaitDone(long epoch, CallSite site);

    /// <summary>Tells every peer what this rank does in this epoch.</summary>
    void Announce(in Announcement announcement, RoutingPlan plan);

    /// <summary>Waits for every peer's announcement; throws alike on all ranks where they disagree or someone lacks room.</summary>
    Agreement Agree(in Announcement mine, RoutingPlan plan);

    /// <summary>Writes what nobody sends into this rank's region: the metadata of padding, zeros, counts.</summary>
    void Prepare(in ReceiveCall call);

    /// <summary>Writes each row to its final place at its destinations, then tells them.</summary>
    void Push(in PushCall call);

    /// <summary>Waits for the rows that others send to this rank, and takes over the groups that they are to be summed in.</summary>
    void AwaitRows(in ReceiveCall call);

    /// <summary>Copies results into this rank's arena, for peers to read.</summary>
    void CopyResults(in OfferCall call);

    /// <summary>Sums results by the plan's groups into this rank's arena, for peers to read.</summary>
    void SumGroups(in OfferCall call);

    /// <summary>Reads each contribution where it lies and reduces, then tells the owners.</summary>
    void Pull(in PullCall call);

    /// <summary>How long this rank has waited for a peer so far, beyond a first look.</summary>
    TimeSpan WaitedFor(int peer);
}

using Switchyard.Arena;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Rendezvous;

namespace Switchyard.Transports;

/// <summary>The contract within a node: memory that peers map, and the engine that runs the phases of a call in it.</summary>
internal interface IScaleUpTransport
{
    /// <summary>The bytes of a row that travels are a multiple of this.</summary>
    int RowGranularity { get; }

    /// <summary>Checks, before any rank of this machine allocates, that all their arenas fit.</summary>
    /// <exception cref="TransportException">They do not.</exception>
    void RequireRoom(long bytes, int arenas);

    /// <summary>Fresh memory, zeroed and of a fixed size, that peers can map.</summary>
    /// <exception cref="TransportException">The system has not that much.</exception>
    ArenaMemory Allocate(long bytes);

    /// <summary>Maps what a peer allocated.</summary>
    /// <param name="export">What it shared.</param>
    /// <param name="place">Its <see cref="Place"/>.</param>
    ArenaMemory Map(ArenaExport export, ReadOnlySpan<byte> place);

    /// <summary>On what this rank's calls run, as its peers are told.</summary>
    byte[] Place { get; }

    /// <summary>Whether two ranks' calls run on the same: then each gets a part of it.</summary>
    bool Shares(ReadOnlySpan<byte> place, ReadOnlySpan<byte> other);

    /// <summary>Checks that this rank can reach the memory of all others.</summary>
    /// <exception cref="TransportException">It cannot; names all it cannot reach.</exception>
    void RequireReach(byte[][] places);

    /// <summary>Checks that this rank's calls can run at once with those of its neighbours (<see cref="EngineSetup"/>).</summary>
    /// <exception cref="TransportException">They cannot; names the option and the limit.</exception>
    void RequireFit(ExpertBufferOptions options, int neighbours);

    /// <summary>An engine for one buffer. It holds a reference to each arena until disposed.</summary>
    /// <exception cref="TransportException">The system, or a device, lacks what it needs.</exception>
    IScaleUpEngine CreateEngine(EngineSetup setup);

    /// <summary>Memory of a device that the plan behind each handle takes; 0 where there is no device.</summary>
    long HandleBytes(ExpertBufferOptions options, int localExperts);
}

/// <summary>What an engine is made from.</summary>
/// <param name="Channel">The group as this rank sees it.</param>
/// <param name="Layout">Where things lie in every arena.</param>
/// <param name="Arenas">All ranks' arenas, mapped, by rank.</param>
/// <param name="Options">What the buffer was made with.</param>
/// <param name="Neighbours">The ranks that share processors, or a device, with this one, itself included.</param>
internal sealed record EngineSetup(GroupChannel Channel, ArenaLayout Layout, ArenaMemory[] Arenas, ExpertBufferOptions Options, int Neighbours);

/// <summary>
/// What moves the rows of one buffer. A host engine does a call's work and returns; a device engine enqueues it, and waits on the host only
/// for what the caller asked to know. Waits end by the deadline in a <see cref="SwitchyardException"/> that all ranks share.
/// </summary>
internal interface IScaleUpEngine : IDisposable
{
    /// <summary>How long a wait for a peer may take.</summary>
    TimeSpan Deadline { get; set; }

    /// <summary>Per local expert: the choices of it that all dispatches so far brought, cached ones not counted.</summary>
    ReadOnlySpan<long> CumulativeTokensPerExpert { get; }

    /// <summary>The last combine of which it is known, without asking, that no rank reads for it any more where the next call's work begins.</summary>
    long Settled { get; }

    /// <summary>Whether the call that was entered last is captured, to run whenever and as often as its graph does.</summary>
    bool IsCapturing { get; }

    /// <summary>Throws the fault that broke this engine, if any; or once the refusal of a call that did not wait for its verdict.</summary>
    void ThrowIfBroken();

    /// <summary>Throws unless this engine can reach a tensor's memory; <paramref name="rowBytes"/> of rows that it is to move, 0 for others.</summary>
    void RequireReachable(ReadOnlyTensorView tensor, string name, long rowBytes);

    /// <summary>Begins a call, whose arguments are right: says where its work runs.</summary>
    void Enter(in DeviceOptions device);

    /// <summary>Takes this rank's choices, tokens × top-k, into a plan; throws where it can tell that they are wrong.</summary>
    /// <returns>Bytes beside the arena that the call needs and that are not to be had: all ranks are to learn that it is not made. 0 where it can be.</returns>
    long Count(RoutingPlan plan, ReadOnlyTensorView topkIndices);

    /// <summary>
    /// Before memory is written that peers may have read: lets what follows wait until they are done with combine <paramref name="epoch"/>; 0 for none, but
    /// what a call that runs beside others wrote there.
    /// </summary>
    void AwaitDone(long epoch, CallSite site);

    /// <summary>
    /// Announces, agrees with all ranks where each row goes, writes the rows there and awaits those of the others. Afterwards the plan knows
    /// its totals, unless its shape is fixed.
    /// </summary>
    void Dispatch(in DispatchCall call);

    /// <summary>Copies results into this rank's arena, for peers to read.</summary>
    void CopyResults(in OfferCall call);

    /// <summary>Sums results by the plan's groups into this rank's arena, for peers to read.</summary>
    void SumGroups(in OfferCall call);

    /// <summary>Copies weights into this rank's arena, for peers to read.</summary>
    void CopyWeights(nint source, nint destination, long bytes);

    /// <summary>Announces, agrees with all ranks, reads each contribution where it lies and reduces, then tells the owners.</summary>
    void Combine(in CombineCall call);

    /// <summary>How long this rank has waited for a peer so far, beyond a first look.</summary>
    TimeSpan WaitedFor(int peer);
}

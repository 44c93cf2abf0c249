using Switchyard.Transports;

namespace Switchyard.Rendezvous;

/// <summary>The control plane of ranks in processes of one machine.</summary>
internal sealed class ControlChannel : GroupChannel
{
    private ControlChannel(int rank, PeerInfo[] peers, long generation)
        : base(rank, peers, generation)
    {
    }

    public static Task<ControlChannel> JoinAsync(ExpertGroupOptions options, CancellationToken ct) => throw new NotSupportedException();

    public override Task<Gathered[]> AllGatherAsync(ReadOnlyMemory<byte> payload, ArenaExport? arena, CancellationToken ct) =>
        throw new NotSupportedException();

    public override void Dispose()
    {
    }
}

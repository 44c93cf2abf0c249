using System.Runtime.InteropServices;
using Switchyard.Rendezvous;

namespace Switchyard.Protocol;

internal enum FaultKind : byte
{
    None = 0,
    PeerLost = 1,
    PeerLeft = 2,
    PeerClosed = 3,
    Timeout = 4,
    Mismatch = 5,
    Protocol = 6,
}

/// <summary>What a rank tells its peers when it gives up: enough for all of them to throw the same error.</summary>
[StructLayout(LayoutKind.Sequential, Size = 128)]
internal struct FaultRecord
{
    public FaultKind Kind;
    public Operation Operation;
    public CallPhase Phase;
    public byte Reserved;
    public int Reporter;
    public int Culprit;
    public int HasNoThread;
    public long Epoch;
    public long Expected;
    public long Seen;
    public long WaitedTicks;
    public CallSignature ReporterSignature;
    public CallSignature CulpritSignature;

    public readonly CallSite Site => new(Operation, Phase, Epoch);

    /// <param name="channel">What this rank itself knows of its peers.</param>
    public readonly SwitchyardException ToException(GroupChannel channel)
    {
        PeerInfo[] peers = channel.Peers;
        // A record lies in memory that every peer can write: what it names is checked like everything else that comes from there.
        if ((uint)Culprit >= (uint)peers.Length || (uint)Reporter >= (uint)peers.Length)
            return new ProtocolException(-1, $"A fault record names ranks {Reporter} and {Culprit} in a group of {peers.Length}.");
        PeerInfo[] culprit = [peers[Culprit]];
        string? cause = channel.CauseOf(Culprit) is { Length: > 0 } known ? known : null;
        return Kind switch
        {
            FaultKind.PeerLost => new PeerLostException(
                channel.LostTogether is [{ } first, ..] all && first.Rank == Culprit ? all : culprit, cause ?? $"rank {Reporter} saw it end", Site, Seen),
            FaultKind.PeerLeft => new PeerLostException(culprit, cause ?? "it left the group", Site, Seen),
            FaultKind.PeerClosed => new PeerLostException(culprit, "it disposed its buffer and will not make this call", Site, Seen),
            FaultKind.Timeout => new PeerTimeoutException(
                peers[Culprit], Reporter, Site, Expected, Seen, TimeSpan.FromTicks(WaitedTicks), HasNoThread != 0 ? NoThreadHint : null),
            FaultKind.Mismatch => new CallMismatchException(Reporter, Culprit, ReporterSignature.DifferenceTo(CulpritSignature), Site),
            FaultKind.Protocol => new ProtocolException(Culprit, $"found by rank {Reporter} in {Site}: expected {Expected}, read {Seen}."),
            _ => new ProtocolException(-1, $"A fault record is of kind {(byte)Kind}."),
        };
    }

    private const string NoThreadHint = "It is in the same process, and no other thread has driven it: each rank needs a thread of its own.";
}

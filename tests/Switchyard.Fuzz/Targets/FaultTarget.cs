using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Protocol;
using Switchyard.Transports;

namespace Switchyard.Fuzz.Targets;

/// <summary>An abort word and a fault record as peers may have left them: here and, for one who reports a fault of its own, at rank 0.</summary>
internal sealed unsafe class FaultTarget : Target
{
    private const int Ranks = 3;
    private const int Rank = 1;

    private static readonly ExpertBufferOptions _options = new()
    {
        Backend = CpuBackend.Instance,
        Experts = 3,
        TopK = 1,
        Hidden = 1,
        MaxTokensPerRank = 1,
        Element = ElementType.Single,
    };

    private readonly ExpertGroup[] _groups = ExpertGroup.CreateLocal(Ranks);
    private readonly ArenaLayout _layout = _options.LayoutFor(Ranks);
    private readonly ArenaMemory[] _memories;
    private readonly PeerArenas _arenas;
    private readonly FaultBoard _board;

    public FaultTarget()
    {
        _memories = [.. _groups.Select(_ => _options.Backend.ScaleUp.Allocate(_layout.TotalBytes))];
        _arenas = new PeerArenas(Rank, _layout, _memories);
        _board = new FaultBoard(_arenas, _groups[Rank].Channel);
    }

    public override IEnumerable<byte[]> Seeds()
    {
        foreach (FaultKind kind in Enum.GetValues<FaultKind>())
        {
            var record = new FaultRecord { Kind = kind, Operation = Operation.Combine, Phase = CallPhase.AwaitRows, Reporter = 2, Culprit = 0, Epoch = 5, WaitedTicks = 10_000_000 };
            foreach (uint word in new uint[] { 0, 1, 3, 4 })
                yield return new InputWriter().UInt32(word).UInt32(word).Bytes(MemoryMarshal.AsBytes(new ReadOnlySpan<FaultRecord>(in record))).ToArray();
        }
        yield return new InputWriter().UInt32(uint.MaxValue).UInt32(uint.MaxValue).ToArray();
    }

    public override void Run(byte[] input)
    {
        foreach (ArenaMemory memory in _memories) new Span<byte>((byte*)memory.Address, (int)_layout.PoolOffset).Clear();
        var reader = new InputReader(input);
        uint here = reader.UInt32(), atZero = reader.UInt32();
        byte[] record = reader.Bytes(ArenaLayout.FaultBytes);
        *_arenas.AbortOf(Rank) = here;
        *_arenas.AbortOf(0) = atZero;
        foreach (int rank in new[] { 0, Rank })
        {
            for (int slot = 0; slot <= Ranks; slot++) record.CopyTo(new Span<byte>(_arenas.FaultAt(rank, slot), ArenaLayout.FaultBytes));
        }
        Require(_board.IsRaised == (here != 0), "a fault is raised if the word says so");
        var site = new CallSite(Operation.Dispatch, CallPhase.AwaitAnnouncement, 9);
        if (_board.IsRaised) RequireSound(_board.Exception(site));
        RequireSound(_board.Raise(new FaultRecord { Kind = FaultKind.Timeout, Culprit = 2, Phase = CallPhase.AwaitRows, Epoch = 9 }));
        for (int rank = 0; rank < Ranks; rank++) Require(*_arenas.AbortOf(rank) != 0, "all ranks are told");
    }

    protected override void Close()
    {
        _arenas.Release();
        foreach (ArenaMemory memory in _memories) memory.Release();
        foreach (ExpertGroup group in _groups) group.Dispose();
    }

    private static void RequireSound(SwitchyardException error)
    {
        int named = error switch
        {
            PeerLostException lost => lost.Peer.Rank,
            PeerTimeoutException late => late.Peer.Rank,
            CallMismatchException mismatch => mismatch.Other,
            ProtocolException broken => broken.Peer,
            _ => throw new InvalidOperationException($"an unexpected kind of error: {error}"),
        };
        Require(named >= -1 && named < Ranks && error.Message.Length > 0, "the error names a rank of the group, or says that none is known");
    }
}

using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Planning;
using Switchyard.Protocol;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard.Fuzz.Targets;

/// <summary>
/// What peers write into a rank's arena in a dispatch and the combine after it: announcements, counts, arrival words, groups of rows. Rank 0 of
/// three runs the protocol; the others' words are genuine for the choices in the input, then patched as it says.
/// </summary>
internal sealed unsafe class WordsTarget : Target
{
    private const int Ranks = 3;
    private const int TopK = 2;
    private const int Tokens = 4;
    private const int Experts = 6;

    private static readonly ExpertBufferOptions _options = new()
    {
        Backend = CpuBackend.Instance,
        Experts = Experts,
        TopK = TopK,
        Hidden = 8,
        MaxTokensPerRank = Tokens,
        Element = ElementType.Single,
        MemoryBudget = 1 << 14,
    };

    private readonly ExpertGroup[] _groups = ExpertGroup.CreateLocal(Ranks);
    private readonly ArenaLayout _layout = _options.LayoutFor(Ranks);
    private readonly ArenaMemory[] _arenas;
    private readonly HostProtocol _protocol;
    private readonly RoutingPlan[] _plans;
    private readonly ExpertMarks _marks = new(Experts);

    public WordsTarget()
    {
        _arenas = [.. _groups.Select(_ => _options.Backend.ScaleUp.Allocate(_layout.TotalBytes))];
        _protocol = new HostProtocol(new EngineSetup(_groups[0].Channel, _layout, _arenas, _options, Ranks)) { Deadline = TimeSpan.FromMilliseconds(1) };
        var placement = new ExpertPlacement(Experts, Ranks);
        _plans = [.. _groups.Select(group => new RoutingPlan(null!, _layout, placement, group.Rank, Tokens, _options.ReceiveCapacityFor(Ranks)))];
    }

    public override IEnumerable<byte[]> Seeds()
    {
        foreach (int options in Enumerable.Range(0, 16))
        {
            yield return Input(options, []);
            yield return Input(options, [new Patch(Place.Entry, 1, _layout.RankCountsOffset, 9, 2)]);
        }
        yield return Input(1, [new Patch(Place.Entry, 2, 40, ulong.MaxValue)]);
        foreach (long offset in new[] { _layout.PoolOffset - ArenaLayout.LineBytes, _layout.TotalBytes - ArenaLayout.LineBytes, _layout.TotalBytes })
        {
            yield return Input(1, [new Patch(Place.Entry, 1, 40, (ulong)offset)]);
            yield return Input(1, [new Patch(Place.Combine, 1, 40, (ulong)offset)]);
            yield return Input(1, [new Patch(Place.Combine, 1, 56, (ulong)offset + 60)]);
        }
        yield return Input(1, [new Patch(Place.Arrival, 2, 0, 0)]);
        yield return Input(7, [new Patch(Place.Groups, 1, 0, 0x7FFF_FFFF, 2)]);
        yield return Input(1, [new Patch(Place.Combine, 1, 48, 1 << 20)]);
    }

    public override void Run(byte[] input)
    {
        foreach (ArenaMemory arena in _arenas) new Span<byte>((byte*)arena.Address, (int)_layout.TotalBytes).Clear();
        var reader = new InputReader(input);
        DispatchOptions options = OptionsOf(reader.Byte());
        foreach (RoutingPlan plan in _plans) Count(plan, options, ref reader);
        var patches = new List<Patch>();
        while (!reader.IsAtEnd) patches.Add(Patch.Read(ref reader));
        try
        {
            Agreement agreement = Dispatch(options, patches);
            RequireRowsWithin(agreement);
            Receive(agreement, patches);
            Combine(options, patches);
        }
        catch (Exception expected) when (expected is ProtocolException { Peer: > 0 and < Ranks } or CallMismatchException or CapacityException or PeerTimeoutException)
        {
            // All that a peer's words may end in.
        }
    }

    protected override void Close()
    {
        _protocol.Dispose();
        foreach (ArenaMemory arena in _arenas) arena.Release();
        foreach (ExpertGroup group in _groups) group.Dispose();
    }

    private static byte[] Input(int options, Patch[] patches)
    {
        InputWriter writer = new InputWriter().Byte(options);
        for (int rank = 0; rank < Ranks; rank++)
        {
            writer.Byte(Tokens - rank);
            for (int token = 0; token < Tokens - rank; token++) writer.Byte(token + rank).Byte(token + rank + 3);
        }
        foreach (Patch patch in patches) patch.Write(writer);
        return writer.ToArray();
    }

    private static DispatchOptions OptionsOf(int bits) => (bits & 1) == 0
        ? new DispatchOptions { Layout = RowLayout.RankMajor, FixedShape = (bits & 8) != 0 }
        : new DispatchOptions { Layout = RowLayout.ExpertMajor, PreReduce = (bits & 2) != 0, ExpertAlignment = (bits & 4) == 0 ? 1 : 3, FixedShape = (bits & 8) != 0 };

    private void Count(RoutingPlan plan, in DispatchOptions options, ref InputReader reader)
    {
        int tokens = reader.Byte() % (Tokens + 1);
        var choices = new int[tokens * TopK];
        for (int token = 0; token < tokens; token++)
        {
            choices[token * TopK] = reader.Byte() % Experts;
            int second = reader.Byte() % Experts;
            choices[(token * TopK) + 1] = second == choices[token * TopK] ? -1 : second;
        }
        plan.Begin(options, tokens);
        RoutingPlanner.Count(plan, choices, _marks);
    }

    private Agreement Dispatch(in DispatchOptions options, List<Patch> patches)
    {
        RoutingPlan plan = _plans[0];
        var announcement = new Announcement
        {
            Epoch = 1,
            Signature = new CallSignature(Operation.Dispatch, options.Layout, Traits(options), Float8Scaling.None, plan.Alignment, 0, _layout.Format),
            RegionOffset = _layout.PoolOffset,
            RegionRows = Math.Min(plan.MostRows(0), RegionLayout.MaxRows(_layout.PoolBytes, plan.ShapeOf(0, _layout.Format))),
        };
        for (int peer = 1; peer < Ranks; peer++)
        {
            Announcement* entry = _protocol.Arenas.EntryAt(0, peer, 1);
            *entry = announcement with { Flag = new EpochWord(1).Bits };
            _plans[peer].TokensTo.CopyTo(new Span<int>((byte*)entry + _layout.RankCountsOffset, Ranks));
            _plans[peer].ChoicesOf.CopyTo(new Span<int>((byte*)entry + _layout.ExpertCountsOffset, Experts));
        }
        Apply(patches, Place.Entry, patch => (byte*)_protocol.Arenas.EntryAt(0, patch.Peer, 1), _layout.EntryBytes);
        for (int peer = 1; peer < Ranks; peer++) Sign(_protocol.Arenas.EntryAt(0, peer, 1));
        return _protocol.Agree(announcement, plan);
    }

    private void Receive(Agreement agreement, List<Patch> patches)
    {
        RoutingPlan plan = _plans[0];
        var call = new ReceiveCall
        {
            Epoch = 1,
            Plan = plan,
            RegionOffset = _layout.PoolOffset,
            Region = agreement.Regions[0],
            HasMetadata = true,
            ZeroPadding = true,
            Site = new CallSite(Operation.Dispatch, CallPhase.AwaitRows, 1),
        };
        var region = new ReceiveRegion(_protocol);
        region.Prepare(call);
        for (int peer = 0; peer < Ranks; peer++) *_protocol.Arenas.ArrivalAt(0, peer) = new EpochWord(1, plan.ReceivedFrom[peer]).Bits;
        Apply(patches, Place.Arrival, patch => (byte*)_protocol.Arenas.ArrivalAt(0, patch.Peer), sizeof(ulong));
        _protocol.AwaitRows(1, plan, call.Site);
        if (!plan.IsPreReduced) return;
        byte* groups = _protocol.Arenas.Base(0) + call.RegionOffset + call.Region.GroupsOffset;
        int own = plan.TokensFrom[0] * TopK * sizeof(int);
        Apply(patches, Place.Groups, _ => groups + own, (int)(call.Region.Bytes - call.Region.GroupsOffset) - own);
        region.TakeGroups(call);
        foreach (int[] group in plan.Groups[..((int)plan.TotalTokens[0] * TopK)].Chunk(TopK))
            Require(group.TakeWhile(row => row != -1).All(row => row >= 0 && row < plan.TotalRows[0]), "groups are of rows there");
    }

    private void Combine(in DispatchOptions options, List<Patch> patches)
    {
        RoutingPlan plan = _plans[0];
        plan.Issue(1);
        var announcement = new Announcement
        {
            Epoch = 2,
            Signature = new CallSignature(Operation.Combine, plan.Layout, Traits(options) | CallTraits.Weights, Float8Scaling.None, plan.Alignment, 1, _layout.Format),
            RegionOffset = _layout.PoolOffset,
            RegionRows = plan.SummedRows[0],
            WeightsOffset = _layout.PoolOffset,
        };
        for (int peer = 1; peer < Ranks; peer++)
            *_protocol.Arenas.EntryAt(0, peer, 2) = announcement with { Flag = new EpochWord(2).Bits, RegionRows = plan.SummedRows[peer] };
        Apply(patches, Place.Combine, patch => (byte*)_protocol.Arenas.EntryAt(0, patch.Peer, 2), Unsafe.SizeOf<Announcement>());
        for (int peer = 1; peer < Ranks; peer++) Sign(_protocol.Arenas.EntryAt(0, peer, 2));
        Agreement agreement = _protocol.Agree(announcement, plan);
        for (int peer = 0; peer < Ranks; peer++)
        {
            RequireInPool(agreement.RegionOffsets[peer], plan.SummedRows[peer] * _layout.RowBytes);
            RequireInPool(agreement.WeightsOffsets[peer], plan.TotalRows[peer] * _layout.ColumnsOf(plan.Layout) * sizeof(float));
        }
    }

    /// <summary>As a rank does that means what it says.</summary>
    private void Sign(Announcement* entry)
    {
        bool hasCounts = entry->Signature.Operation == Operation.Dispatch;
        entry->Check = entry->CheckWith(
            hasCounts ? new Span<int>((byte*)entry + _layout.RankCountsOffset, Ranks) : [],
            hasCounts ? new Span<int>((byte*)entry + _layout.ExpertCountsOffset, Experts) : []);
    }

    private void RequireRowsWithin(Agreement agreement)
    {
        RoutingPlan plan = _plans[0];
        for (int peer = 0; peer < Ranks; peer++) RequireInPool(agreement.RegionOffsets[peer], agreement.Regions[peer].Bytes);
        RequireWithin(plan.Sent, plan.Tokens, agreement, plan.TotalRows);
        RequireWithin(plan.Summed, plan.Tokens, agreement, plan.SummedRows);
    }

    private static void RequireWithin(RowEntries entries, int tokens, Agreement agreement, long[] rows)
    {
        for (int entry = 0; entry < entries.CountOf(tokens); entry++)
        {
            int rank = entries.Rank[entry], row = entries.Row[entry];
            Require(row >= 0 && row < rows[rank] && row < agreement.Regions[rank].Rows, $"row {row} lies in the region of rank {rank}");
        }
    }

    private void RequireInPool(long offset, long bytes) =>
        Require(bytes == 0 || (offset >= _layout.PoolOffset && bytes <= _layout.TotalBytes - offset), $"{bytes} bytes at {offset} lie in the pool");

    private static CallTraits Traits(in DispatchOptions options) =>
        (options.FixedShape ? CallTraits.FixedShape : 0) | (options.PreReduce ? CallTraits.PreReduce : 0);

    private static void Apply(List<Patch> patches, Place place, PatchedMemory memory, int bytes)
    {
        foreach (Patch patch in patches)
        {
            if (patch.Place == place && bytes > 0) patch.ApplyTo(new Span<byte>(memory(patch), bytes));
        }
    }

    private delegate byte* PatchedMemory(Patch patch);
}

internal enum Place
{
    Entry,
    Arrival,
    Groups,
    Combine,
}

/// <summary>A value of 1, 2, 4 or 8 bytes written over what a peer has written.</summary>
internal readonly record struct Patch(Place Place, int Peer, int Offset, ulong Value, int LogBytes = 3)
{
    public static Patch Read(ref InputReader reader)
    {
        int where = reader.Byte();
        return new Patch((Place)(where & 3), 1 + ((where >> 2) & 1), reader.UInt16(), reader.UInt64(), (where >> 3) & 3);
    }

    public void Write(InputWriter writer) => writer.Byte((int)Place | ((Peer - 1) << 2) | (LogBytes << 3)).UInt16(Offset).UInt64(Value);

    public void ApplyTo(Span<byte> memory)
    {
        Span<byte> value = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(value, Value);
        int at = Offset % memory.Length, bytes = Math.Min(1 << LogBytes, memory.Length - at);
        value[..bytes].CopyTo(memory[at..]);
    }
}

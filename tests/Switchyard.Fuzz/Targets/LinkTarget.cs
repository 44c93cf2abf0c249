using Microsoft.Win32.SafeHandles;
using Switchyard.Cpu;
using Switchyard.Rendezvous;

namespace Switchyard.Fuzz.Targets;

/// <summary>
/// Packets of a peer in a formed group, with descriptors: flags (descriptors, whether the last contribution is taken before), length, bytes;
/// what the bytes lack to the length is zero.
/// </summary>
internal sealed class LinkTarget : Target
{
    private const int Peer = 3;
    private const long Generation = 7;
    private const int MaxDescriptors = 4;
    private const int TakesFlag = 0x40;

    private readonly byte[] _buffer = new byte[LinkFrame.MaxBytes];
    private readonly SharedMemory _arena = SharedMemory.Create(4096);
    private readonly WakeEvent _other = new();

    public override IEnumerable<byte[]> Seeds()
    {
        yield return new InputWriter().Bytes(Packet(Chunk(5, 0), [1, 2, 3])).Bytes(Packet(Chunk(5, 3), [4, 5])).ToArray();
        yield return new InputWriter().Bytes(Packet(Chunk(1, 0), [1])).Bytes(Packet(Chunk(0, 0, sequence: 1), [], TakesFlag)).ToArray();
        yield return new InputWriter().Bytes(Packet(Chunk(1, 0) with { ArenaBytes = 4096 }, [1], 1)).ToArray();
        yield return new InputWriter().Bytes(Packet(new(LinkFrameKind.Lost, Generation, 5), [])).Bytes(Packet(new(LinkFrameKind.Goodbye, Generation), [])).ToArray();
        yield return new InputWriter().Bytes(Packet(new(LinkFrameKind.Vote, Generation, 6), [])).Bytes(Packet(new(LinkFrameKind.Commit, Generation, 6), [])).ToArray();
        yield return new InputWriter().Bytes(Packet(Chunk(1, 0) with { Generation = Generation - 1 }, [1], 1)).ToArray();
        yield return new InputWriter().Bytes(Packet(Chunk(1 << 20, 0), [1])).ToArray();
    }

    public override void Run(byte[] input)
    {
        (PacketSocket mine, PacketSocket theirs) = PacketSocket.CreatePair();
        var link = new PeerLink(Peer, RankSet.AllOf(8), Generation, new PeerTie(mine, null));
        var news = new List<RankNews>();
        var reader = new InputReader(input);
        long allocated = GC.GetAllocatedBytesForCurrentThread(), sent = 0;
        while (!reader.IsAtEnd && !link.HasEnded && !link.HasCommitted)
        {
            int flags = reader.Byte(), length = reader.UInt16();
            byte[] packet = new byte[length];
            reader.Bytes(Math.Min(length, reader.Rest.Length)).CopyTo(packet, 0);
            if ((flags & TakesFlag) != 0 && link.Ready.TryDequeue(out Contribution? whole)) whole.Take().Arena?.Dispose();
            theirs.Send(packet, default, Descriptors(flags));
            sent += length;
            link.Receive(_buffer, news);
        }
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        Require(link.Ready.Count <= 2, "no peer is two gathers ahead");
        Require(link.Violation is null || (link.HasEnded && link.Violation.Peer == Peer), "a violation ends the link and names the peer");
        Require(news.TrueForAll(each => !each.Ranks.Contains(Peer) && each.Ranks.All(rank => rank < 8)), "a peer tells only of the other ranks of its group");
        Require(allocated < (1 << 20) + (8 * sent) + (8 * input.Length), $"what is allocated ({allocated}) is bounded by what came ({sent})");
        link.Dispose();
        theirs.Dispose();
    }

    protected override void Close()
    {
        _arena.Release();
        _other.Dispose();
    }

    private static LinkFrame Chunk(long total, long offset, long sequence = 0) => new(LinkFrameKind.Chunk, 0, Generation, sequence, total, offset);

    private static byte[] Packet(LinkFrame frame, byte[] chunk, int flags = 0)
    {
        var head = new byte[LinkFrame.HeadBytes];
        frame.Write(head);
        return new InputWriter().Byte(flags).UInt16(head.Length + chunk.Length).Bytes(head).Bytes(chunk).ToArray();
    }

    /// <summary>The arena first, unless the flags say otherwise; the others are no memory.</summary>
    private int[] Descriptors(int flags)
    {
        int arena = (int)_arena.Descriptor.DangerousGetHandle();
        var descriptors = new int[Math.Min(flags & 7, MaxDescriptors)];
        Array.Fill(descriptors, _other.Descriptor);
        if (descriptors.Length > 0 && (flags & 8) == 0) descriptors[0] = arena;
        return descriptors;
    }
}

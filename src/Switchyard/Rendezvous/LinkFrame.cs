using System.Buffers.Binary;

namespace Switchyard.Rendezvous;

internal enum LinkFrameKind : byte
{
    /// <summary>A piece of what its sender gives to an all-gather.</summary>
    Chunk = 1,

    /// <summary>Its sender leaves; nothing follows.</summary>
    Goodbye = 2,

    /// <summary>The ranks that its sender has lost.</summary>
    Lost = 3,

    /// <summary>All who live have lost these ranks, and take them for lost together.</summary>
    Settled = 4,

    /// <summary>The ranks that its sender would leave out of the next membership.</summary>
    Vote = 5,

    /// <summary>All members voted to leave these ranks out: the next membership begins, and its frames follow.</summary>
    Commit = 6,

    /// <summary>The next membership has begun without the receiver.</summary>
    Fenced = 7,
}

/// <summary>The head of every frame between two ranks of a formed group; one frame a packet. Little-endian.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Generation">The membership it belongs to.</param>
/// <param name="Sequence">The number of the all-gather, from 0; in what is told of ranks, a bit for each of them.</param>
/// <param name="TotalBytes">The length of the whole contribution.</param>
/// <param name="Offset">Where in it this chunk's bytes, which follow the head, belong.</param>
/// <param name="ArenaBytes">The length of the arena whose descriptor comes with the first chunk; 0 without one.</param>
internal readonly record struct LinkFrame(
    LinkFrameKind Kind, long Generation, long Sequence = 0, long TotalBytes = 0, long Offset = 0, long ArenaBytes = 0)
{
    public const int HeadBytes = 48;
    public const int MaxBytes = 64 << 10;
    public const int MaxChunkBytes = MaxBytes - HeadBytes;

    /// <summary>The most a rank gives to one all-gather: control data, not bulk.</summary>
    public const int MaxTotalBytes = 256 << 20;

    private const uint Magic = 0x4C59_5753; // "SWYL"

    /// <summary>The ranks that a frame of another kind than <see cref="LinkFrameKind.Chunk"/> tells of.</summary>
    public RankSet Ranks => new((ulong)Sequence);

    public void Write(Span<byte> head)
    {
        head[..HeadBytes].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(head, Magic);
        head[4] = (byte)Kind;
        BinaryPrimitives.WriteInt64LittleEndian(head[8..], Generation);
        BinaryPrimitives.WriteInt64LittleEndian(head[16..], Sequence);
        BinaryPrimitives.WriteInt64LittleEndian(head[24..], TotalBytes);
        BinaryPrimitives.WriteInt64LittleEndian(head[32..], Offset);
        BinaryPrimitives.WriteInt64LittleEndian(head[40..], ArenaBytes);
    }

    /// <summary>Null where it is no frame at all; what its fields say is the reader's to check.</summary>
    public static LinkFrame? Parse(ReadOnlySpan<byte> packet)
    {
        if (packet.Length < HeadBytes || BinaryPrimitives.ReadUInt32LittleEndian(packet) != Magic) return null;
        return new LinkFrame(
            (LinkFrameKind)packet[4],
            BinaryPrimitives.ReadInt64LittleEndian(packet[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[16..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[32..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[40..]));
    }
}

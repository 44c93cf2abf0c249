using System.Buffers.Binary;

namespace Switchyard.Rendezvous;

internal enum LinkFrameKind : byte
{
    /// <summary>A piece of what its sender gives to an all-gather.</summary>
    Chunk = 1,

    /// <summary>Its sender leaves; nothing follows.</summary>
    Goodbye = 2,

    /// <summary>Its sender has lost a rank.</summary>
    Lost = 3,
}

/// <summary>The head of every frame between two ranks of a formed group; one frame a packet. Little-endian.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Rank">The rank that is lost, in a notice of loss.</param>
/// <param name="Generation">The membership it belongs to.</param>
/// <param name="Sequence">The number of the all-gather, from 0.</param>
/// <param name="TotalBytes">The length of the whole contribution.</param>
/// <param name="Offset">Where in it this chunk's bytes, which follow the head, belong.</param>
/// <param name="ArenaBytes">The length of the arena whose descriptor comes with the first chunk; 0 without one.</param>
internal readonly record struct LinkFrame(
    LinkFrameKind Kind, int Rank, long Generation, long Sequence = 0, long TotalBytes = 0, long Offset = 0, long ArenaBytes = 0)
{
    public const int HeadBytes = 48;
    public const int MaxBytes = 64 << 10;
    public const int MaxChunkBytes = MaxBytes - HeadBytes;

    /// <summary>The most a rank gives to one all-gather: control data, not bulk.</summary>
    public const int MaxTotalBytes = 256 << 20;

    private const uint Magic = 0x4C59_5753; // "SWYL"

    public void Write(Span<byte> head)
    {
        head[..HeadBytes].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(head, Magic);
        head[4] = (byte)Kind;
        BinaryPrimitives.WriteUInt16LittleEndian(head[6..], (ushort)Rank);
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
            BinaryPrimitives.ReadUInt16LittleEndian(packet[6..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[16..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[32..]),
            BinaryPrimitives.ReadInt64LittleEndian(packet[40..]));
    }
}

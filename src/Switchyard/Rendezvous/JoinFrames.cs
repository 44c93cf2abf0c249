using System.Buffers.Binary;
using System.Text;

namespace Switchyard.Rendezvous;

internal enum JoinFrame : byte
{
    Hello = 1,
    Challenge = 2,
    Proof = 3,
    Present = 4,
    Refused = 5,
    Membership = 6,
    Link = 7,
    Ready = 8,
    Commit = 9,
    Give = 10,
    Gathered = 11,
    Verdict = 12,
}

/// <summary>
/// The frames on a joining rank's connection, one a packet: 8 bytes of magic, version and kind, then a body whose length the kind
/// fixes. Little-endian. docs/spec/rendezvous.md draws them.
/// </summary>
internal static class JoinFrames
{
    public const uint Magic = 0x4A59_5753; // "SWYJ"
    public const ushort Version = 1;
    public const int HeaderBytes = 8;
    public const int NonceBytes = 32;
    public const int ChallengeSignedBytes = HeaderBytes + NonceBytes;
    public const int ChallengeBytes = ChallengeSignedBytes + JobToken.ProofBytes;
    public const int ProofBytes = HeaderBytes + JobToken.ProofBytes;
    public const int PresentBytes = 16;
    public const int LinkBytes = 24;
    public const int MembershipHeadBytes = 24;
    public const int MemberBytes = 16 + HostBytes;
    public const int MaxBytes = MembershipHeadBytes + (Limits.MaxRanks * MemberBytes);
    public const int HostBytes = 64;

    public static ReadOnlySpan<byte> ServerRole => "switchyard join: rank 0"u8;

    public static ReadOnlySpan<byte> ClientRole => "switchyard join: member"u8;

    public static byte[] New(JoinFrame kind, int bytes, ushort version = Version)
    {
        var frame = new byte[bytes];
        BinaryPrimitives.WriteUInt32LittleEndian(frame, Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(4), version);
        frame[6] = (byte)kind;
        return frame;
    }

    /// <summary>Whether this is the kind of frame, whole. A Hello and its answers up to the proof are alike in all versions.</summary>
    public static bool Is(ReadOnlySpan<byte> frame, JoinFrame kind, int bytes) =>
        frame.Length == bytes && BinaryPrimitives.ReadUInt32LittleEndian(frame) == Magic && frame[6] == (byte)kind;

    public static void WriteText(Span<byte> place, string text)
    {
        // A longer text is cut where a character ends.
        Encoding.UTF8.GetEncoder().Convert(text, place, flush: true, out _, out _, out _);
    }

    public static string ReadText(ReadOnlySpan<byte> place)
    {
        int end = place.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? place : place[..end]);
    }
}

/// <summary>What a rank says of itself.</summary>
internal readonly record struct Hello(
    int Version, int Rank, int Size, int ProcessId, long Generation, long StartTime, string Job, string Host)
{
    public const int Bytes = 200;

    public byte[] ToFrame(ReadOnlySpan<byte> nonce)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Hello, Bytes, (ushort)Version);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(8), (ushort)Rank);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(10), (ushort)Size);
        BinaryPrimitives.WriteInt32LittleEndian(frame.AsSpan(12), ProcessId);
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(16), Generation);
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(24), StartTime);
        nonce.CopyTo(frame.AsSpan(32));
        JoinFrames.WriteText(frame.AsSpan(64, 72), Job);
        JoinFrames.WriteText(frame.AsSpan(136, JoinFrames.HostBytes), Host);
        return frame;
    }

    public static Hello Parse(ReadOnlySpan<byte> frame) => new(
        BinaryPrimitives.ReadUInt16LittleEndian(frame[4..]),
        BinaryPrimitives.ReadUInt16LittleEndian(frame[8..]),
        BinaryPrimitives.ReadUInt16LittleEndian(frame[10..]),
        BinaryPrimitives.ReadInt32LittleEndian(frame[12..]),
        BinaryPrimitives.ReadInt64LittleEndian(frame[16..]),
        BinaryPrimitives.ReadInt64LittleEndian(frame[24..]),
        JoinFrames.ReadText(frame.Slice(64, 72)),
        JoinFrames.ReadText(frame.Slice(136, JoinFrames.HostBytes)));
}

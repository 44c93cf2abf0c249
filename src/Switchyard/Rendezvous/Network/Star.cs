using System.Buffers.Binary;

namespace Switchyard.Rendezvous.Network;

/// <summary>The frames of an all-gather over rank 0. docs/spec/rendezvous.md draws them.</summary>
internal static class Star
{
    /// <summary>The most a rank gives: what all give must fit into one packet.</summary>
    public const int MaxGivenBytes = 896;

    private const int HeadBytes = 16;
    private const int RoundAt = 8;
    private const int CountAt = 10;

    public static byte[] Give(int round, ReadOnlySpan<byte> bytes)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Give, HeadBytes + bytes.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(RoundAt), (ushort)round);
        bytes.CopyTo(frame.AsSpan(HeadBytes));
        return frame;
    }

    public static byte[] Gathered(int round, byte[]?[] all)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Gathered, HeadBytes + all.Sum(each => sizeof(ushort) + each!.Length));
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(RoundAt), (ushort)round);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(CountAt), (ushort)all.Length);
        Span<byte> rest = frame.AsSpan(HeadBytes);
        foreach (byte[]? each in all)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(rest, (ushort)each!.Length);
            each.CopyTo(rest[sizeof(ushort)..]);
            rest = rest[(sizeof(ushort) + each.Length)..];
        }
        return frame;
    }

    /// <summary>What a rank gives to this round; null where it is something else.</summary>
    public static byte[]? ParseGive(ReadOnlySpan<byte> frame, int round) =>
        IsOf(frame, JoinFrame.Give, round) && frame.Length <= HeadBytes + MaxGivenBytes ? frame[HeadBytes..].ToArray() : null;

    /// <summary>What all ranks gave to this round; null where it is something else.</summary>
    public static byte[][]? ParseGathered(ReadOnlySpan<byte> frame, int round, int size)
    {
        if (!IsOf(frame, JoinFrame.Gathered, round) || BinaryPrimitives.ReadUInt16LittleEndian(frame[CountAt..]) != size) return null;
        var all = new byte[size][];
        ReadOnlySpan<byte> rest = frame[HeadBytes..];
        for (int rank = 0; rank < size; rank++)
        {
            if (rest.Length < sizeof(ushort)) return null;
            int length = BinaryPrimitives.ReadUInt16LittleEndian(rest);
            rest = rest[sizeof(ushort)..];
            if (length > Math.Min(rest.Length, MaxGivenBytes)) return null;
            all[rank] = rest[..length].ToArray();
            rest = rest[length..];
        }
        return rest.IsEmpty ? all : null;
    }

    private static bool IsOf(ReadOnlySpan<byte> frame, JoinFrame kind, int round) =>
        frame.Length >= HeadBytes && JoinFrames.Is(frame, kind, frame.Length)
        && BinaryPrimitives.ReadUInt16LittleEndian(frame[RoundAt..]) == round;
}

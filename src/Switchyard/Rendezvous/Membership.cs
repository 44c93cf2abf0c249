using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous;

/// <summary>A rank of a membership. The start time, in clock ticks since boot, tells its process from a later one of the same number.</summary>
/// <param name="Host">The name of its machine.</param>
/// <param name="ProcessId">Its process there.</param>
/// <param name="StartTime">When that process began.</param>
/// <param name="Node">The same for members of one machine.</param>
internal readonly record struct Member(string Host, int ProcessId, long StartTime, int Node = 0)
{
    /// <summary>This process.</summary>
    public static Member Self { get; } = new(Environment.MachineName, Environment.ProcessId, StartTimeOf("self")!.Value);

    /// <summary>When a process of this machine began; null where it is gone.</summary>
    public static long? StartTimeOf(string process)
    {
        try
        {
            // Field 22; the second field, the name in brackets, may hold spaces.
            string status = File.ReadAllText($"/proc/{process}/stat");
            return long.Parse(status[(status.LastIndexOf(')') + 2)..].Split(' ')[19], System.Globalization.CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null;
        }
    }
}

/// <summary>
/// What ties a rank to one peer: their private connection and, where the kernel gives one, a descriptor of the peer's process. To a
/// peer on another machine: what carries the connection there.
/// </summary>
internal sealed class PeerTie(PacketSocket socket, SafeFileHandle? process, StreamRelay? relay = null) : IDisposable
{
    private readonly ProcessWatch? _watch = process is null ? null : ProcessWatch.Of(process);

    public PacketSocket Socket { get; } = socket;

    public StreamRelay? Relay { get; } = relay;

    public SafeFileHandle? Process { get; } = process;

    /// <summary>Whether the peer's process is on its way out. May be asked by any thread.</summary>
    public bool IsProcessEnding => _watch?.IsEnding() ?? false;

    public void Dispose()
    {
        Socket.Dispose();
        Process?.Dispose();
        _watch?.Dispose();
    }
}

/// <summary>A group that has come together, as one rank holds it: who is in it, and the ties to all but itself.</summary>
internal sealed record Membership(int Rank, long Generation, Member[] Members, PeerTie?[] Ties) : IDisposable
{
    public PeerInfo[] Peers => [.. Members.Select((member, rank) => new PeerInfo(rank, member.Host, member.ProcessId)
    {
        Node = Array.FindIndex(Members, other => other.Node == member.Node),
    })];

    public static byte[] ToFrame(long generation, ReadOnlySpan<Member> members)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Membership, JoinFrames.MembershipHeadBytes + (members.Length * JoinFrames.MemberBytes));
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(8), generation);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(16), (ushort)members.Length);
        for (int rank = 0; rank < members.Length; rank++)
        {
            Span<byte> entry = frame.AsSpan(JoinFrames.MembershipHeadBytes + (rank * JoinFrames.MemberBytes), JoinFrames.MemberBytes);
            BinaryPrimitives.WriteInt32LittleEndian(entry, members[rank].ProcessId);
            BinaryPrimitives.WriteInt64LittleEndian(entry[8..], members[rank].StartTime);
            JoinFrames.WriteText(entry[16..], members[rank].Host);
        }
        return frame;
    }

    /// <summary>Reads a frame; null where it is not a membership of this many ranks.</summary>
    public static (long Generation, Member[] Members)? Parse(ReadOnlySpan<byte> frame, int size)
    {
        if (!JoinFrames.Is(frame, JoinFrame.Membership, JoinFrames.MembershipHeadBytes + (size * JoinFrames.MemberBytes))) return null;
        if (BinaryPrimitives.ReadUInt16LittleEndian(frame[16..]) != size) return null;
        var members = new Member[size];
        for (int rank = 0; rank < size; rank++)
        {
            ReadOnlySpan<byte> entry = frame[(JoinFrames.MembershipHeadBytes + (rank * JoinFrames.MemberBytes))..][..JoinFrames.MemberBytes];
            members[rank] = new Member(
                JoinFrames.ReadText(entry[16..]),
                BinaryPrimitives.ReadInt32LittleEndian(entry),
                BinaryPrimitives.ReadInt64LittleEndian(entry[8..]));
        }
        return (BinaryPrimitives.ReadInt64LittleEndian(frame[8..]), members);
    }

    public void Dispose()
    {
        foreach (PeerTie? tie in Ties) tie?.Dispose();
    }
}

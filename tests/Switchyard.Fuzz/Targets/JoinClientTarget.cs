using System.Buffers.Binary;
using Switchyard.Rendezvous;

namespace Switchyard.Fuzz.Targets;

/// <summary>Packets of a rank 0, to a rank that joins it: flags (make it a right challenge; descriptors), length, bytes; then it closes.</summary>
internal sealed class JoinClientTarget : Target
{
    private const int Rank = 1;
    private const int Size = 3;
    private const int ProvesFlag = 1;
    private const int PatienceMs = 10_000;

    private readonly string _folder = Directory.CreateTempSubdirectory("switchyard-fuzz-").FullName;
    private readonly ExpertGroupOptions _options;
    private readonly JobToken _token;
    private readonly PacketSocket _listener;
    private readonly byte[] _buffer = new byte[JoinFrames.MaxBytes];

    public JoinClientTarget()
    {
        _options = new ExpertGroupOptions { Rank = Rank, Size = Size, Job = "job", Directory = _folder, JoinTimeout = TimeSpan.FromMinutes(1) };
        _token = JobToken.Create(Path.Combine(_folder, "job.token"));
        _listener = PacketSocket.Listen(Path.Combine(_folder, "job.sock"), 16);
    }

    public override IEnumerable<byte[]> Seeds()
    {
        byte[] challenge = Packet(ProvesFlag, JoinFrames.New(JoinFrame.Challenge, JoinFrames.ChallengeBytes));
        byte[] present = Packet(0, JoinFrames.New(JoinFrame.Present, JoinFrames.PresentBytes));
        byte[] membership = Packet(0, Membership.ToFrame(1, Enumerable.Range(0, Size).Select(rank => new Member("host", rank, 5)).ToArray()));
        byte[] commit = Packet(0, JoinFrames.New(JoinFrame.Commit, JoinFrames.HeaderBytes));
        yield return [.. challenge, .. present, .. present, .. membership, .. Link(0, 1), .. Link(2, 2), .. commit];
        yield return [.. challenge, .. present, .. membership, .. Link(0, 0)];
        yield return Packet(0, JoinFrames.New(JoinFrame.Challenge, JoinFrames.ChallengeBytes));
        foreach (RefusalReason reason in Enum.GetValues<RefusalReason>()) yield return [.. challenge, .. Packet(0, new Refusal(reason, 1, 2).ToFrame())];
    }

    public override void Run(byte[] input)
    {
        using var cancelling = new CancellationTokenSource();
        Task<Membership> joining = RendezvousClient.JoinAsync(_options, 1, cancelling.Token);
        using (PacketSocket socket = Accept()) Play(socket, input);
        CancelAtNextAttempt(joining, cancelling);
        try
        {
            joining.GetAwaiter().GetResult().Dispose();
        }
        catch (Exception expected) when (expected is JoinException or ProtocolException { Peer: 0 } or OperationCanceledException)
        {
            // What a rank is told that cannot join.
        }
    }

    protected override void Close()
    {
        _listener.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private PacketSocket Accept()
    {
        Require(PollSet.IsReadable(_listener.Descriptor, PatienceMs), "the rank connects");
        return _listener.TryAccept()!;
    }

    private void Play(PacketSocket socket, byte[] input)
    {
        Require(PollSet.IsReadable(socket.Descriptor, PatienceMs), "the rank says who it is");
        byte[] hello = _buffer[..socket.Receive(_buffer, [])];
        var reader = new InputReader(input);
        while (!reader.IsAtEnd)
        {
            int flags = reader.Byte();
            byte[] packet = reader.Bytes(Math.Min(reader.UInt16(), reader.Rest.Length));
            if ((flags & ProvesFlag) != 0 && packet.Length == JoinFrames.ChallengeBytes)
                _token.Prove(JoinFrames.ServerRole, hello, packet.AsSpan(0, JoinFrames.ChallengeSignedBytes), packet.AsSpan(JoinFrames.ChallengeSignedBytes));
            (PacketSocket one, PacketSocket other) = PacketSocket.CreatePair();
            int[] descriptors = [one.Descriptor, other.Descriptor, _listener.Descriptor];
            SendResult result = packet.Length == 0 ? SendResult.Closed : socket.Send(packet, default, descriptors.AsSpan(0, (flags >> 1) & 3));
            one.Dispose();
            other.Dispose();
            if (result != SendResult.Sent) return;
        }
    }

    /// <summary>A rank whose connection closes before it was answered comes again: then it has got what the input holds.</summary>
    private void CancelAtNextAttempt(Task joining, CancellationTokenSource cancelling)
    {
        long end = Environment.TickCount64 + PatienceMs;
        while (!joining.IsCompleted)
        {
            if (PollSet.IsReadable(_listener.Descriptor, 1))
            {
                _listener.TryAccept()?.Dispose();
                cancelling.Cancel();
            }
            Require(Environment.TickCount64 < end, "the rank comes to an end");
        }
        while (_listener.TryAccept() is { } late) late.Dispose();
    }

    private static byte[] Link(int peer, int descriptors)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Link, JoinFrames.LinkBytes);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(8), (ushort)peer);
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(16), 1);
        return Packet(descriptors << 1, frame);
    }

    private static byte[] Packet(int flags, byte[] bytes) => new InputWriter().Byte(flags).UInt16(bytes.Length).Bytes(bytes).ToArray();
}

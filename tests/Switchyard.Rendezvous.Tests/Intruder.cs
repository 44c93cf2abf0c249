using System.Security.Cryptography;

namespace Switchyard.Rendezvous.Tests;

/// <summary>A connection to rank 0 that says what the test wants, in the frames' own bytes.</summary>
internal sealed class Intruder : IDisposable
{
    private readonly PacketSocket _socket;

    private Intruder(PacketSocket socket) => _socket = socket;

    public static Intruder Connect(TestJob job) => Connect(job.SocketPath);

    public static Intruder Connect(string path)
    {
        for (int i = 0; ; i++)
        {
            if (PacketSocket.TryConnect(path) is { } socket) return new Intruder(socket);
            Assert.True(i < 1000, "rank 0 does not accept");
            Thread.Sleep(2);
        }
    }

    public static byte[] Hello(int rank = 1, int size = 2, int version = JoinFrames.Version, long generation = 1, string name = "job") =>
        new Hello(version, rank, size, 1, generation, 0, name, "intruder").ToFrame(RandomNumberGenerator.GetBytes(JoinFrames.NonceBytes));

    public SendResult Send(byte[] bytes) => _socket.Send(bytes);

    /// <summary>The next frame; empty where rank 0 closed, null where nothing came in time.</summary>
    public byte[]? Receive(int timeoutMs = 3000)
    {
        var buffer = new byte[JoinFrames.MaxBytes];
        PollSet.IsReadable(_socket.Descriptor, timeoutMs);
        int length = _socket.Receive(buffer, []);
        return length < 0 ? null : buffer[..length];
    }

    /// <summary>Answers the challenge as a rank that holds the token, and returns rank 0's verdict.</summary>
    public byte[]? Prove(byte[] hello, JobToken token)
    {
        Send(hello);
        Send(ProofOf(hello, Receive()!, token));
        return Receive();
    }

    public static byte[] ProofOf(byte[] hello, byte[] challenge, JobToken token)
    {
        byte[] proof = JoinFrames.New(JoinFrame.Proof, JoinFrames.ProofBytes);
        token.Prove(JoinFrames.ClientRole, hello, challenge.AsSpan(0, JoinFrames.ChallengeSignedBytes), proof.AsSpan(JoinFrames.HeaderBytes));
        return proof;
    }

    public static RefusalReason? ReasonOf(byte[]? frame) =>
        frame is not null && JoinFrames.Is(frame, JoinFrame.Refused, Refusal.Bytes) ? Refusal.Parse(frame).Reason : null;

    public void Dispose() => _socket.Dispose();
}

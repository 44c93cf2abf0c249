using System.Security.Cryptography;
using Switchyard.Rendezvous;

namespace Switchyard.Fuzz.Targets;

/// <summary>
/// Packets of a rank that joins, to a living rank 0 whose group never gets complete: flags (answer the challenge in it, wait for an answer),
/// length, bytes.
/// </summary>
internal sealed class JoinServerTarget : Target
{
    private const int ProvesFlag = 1;
    private const int AwaitsFlag = 2;
    private const int PatienceMs = 5000;

    private readonly string _folder = Directory.CreateTempSubdirectory("switchyard-fuzz-").FullName;
    private readonly ExpertGroupOptions _options;
    private readonly RendezvousServer _server;
    private readonly JobToken _token;
    private readonly byte[] _buffer = new byte[JoinFrames.MaxBytes];

    public JoinServerTarget()
    {
        _options = new ExpertGroupOptions { Rank = 0, Size = 3, Job = "job", Directory = _folder, JoinTimeout = TimeSpan.FromHours(12) };
        _server = RendezvousServer.StartAsync(_options, 1, CancellationToken.None).GetAwaiter().GetResult();
        _token = JobToken.Read(Path.Combine(_folder, "job.token"));
    }

    public override IEnumerable<byte[]> Seeds()
    {
        yield return Join(Hello());
        yield return Join(Hello(rank: 2, version: 2));
        yield return Join(Hello(rank: 9));
        yield return Join(Hello(size: 4));
        yield return Join(Hello(generation: 2));
        yield return Join(Hello(job: "bob"));
        yield return [.. Join(Hello()), .. Packet(0, JoinFrames.New(JoinFrame.Ready, JoinFrames.HeaderBytes))];
        yield return [.. Packet(AwaitsFlag, Hello()), .. Packet(AwaitsFlag, JoinFrames.New(JoinFrame.Proof, JoinFrames.ProofBytes))];
    }

    public override void Run(byte[] input)
    {
        using (PacketSocket socket = Connect())
        {
            byte[] hello = [], answer = [];
            var reader = new InputReader(input);
            while (!reader.IsAtEnd)
            {
                int flags = reader.Byte();
                byte[] packet = reader.Bytes(Math.Min(reader.UInt16(), reader.Rest.Length));
                bool proves = (flags & ProvesFlag) != 0 && packet.Length == JoinFrames.ProofBytes && answer.Length == JoinFrames.ChallengeBytes;
                if (proves) _token.Prove(JoinFrames.ClientRole, hello, answer.AsSpan(0, JoinFrames.ChallengeSignedBytes), packet.AsSpan(JoinFrames.HeaderBytes));
                if (packet.Length == 0 || socket.Send(packet) != SendResult.Sent) break;
                if (hello.Length == 0) hello = packet;
                if ((flags & AwaitsFlag) != 0) answer = Receive(socket, 50) ?? answer;
            }
        }
        RequireGenuineIsServed();
    }

    protected override void Close()
    {
        _server.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private void RequireGenuineIsServed()
    {
        Require(!_server.Joined.IsCompleted, "the job goes on");
        using PacketSocket socket = Connect();
        socket.Send(Hello());
        Require(Receive(socket, PatienceMs) is { Length: JoinFrames.ChallengeBytes }, "a genuine rank is answered");
    }

    private PacketSocket Connect()
    {
        PacketSocket? socket;
        while ((socket = PacketSocket.TryConnect(Path.Combine(_folder, "job.sock"))) is null) Thread.Yield();
        return socket;
    }

    /// <summary>The next packet; empty where the other side closed, null where none came in time.</summary>
    private byte[]? Receive(PacketSocket socket, int timeoutMs)
    {
        PollSet.IsReadable(socket.Descriptor, timeoutMs);
        int length = socket.Receive(_buffer, []);
        return length < 0 ? null : _buffer[..length];
    }

    private static byte[] Hello(int rank = 1, int size = 3, int version = JoinFrames.Version, long generation = 1, string job = "job") =>
        new Hello(version, rank, size, 1, generation, 0, job, "host").ToFrame(SHA256.HashData("nonce"u8));

    private static byte[] Join(byte[] hello) => [.. Packet(AwaitsFlag, hello), .. Packet(ProvesFlag | AwaitsFlag, JoinFrames.New(JoinFrame.Proof, JoinFrames.ProofBytes))];

    private static byte[] Packet(int flags, byte[] bytes) => new InputWriter().Byte(flags).UInt16(bytes.Length).Bytes(bytes).ToArray();
}

using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous;

internal enum JoinStep
{
    AwaitHello,
    AwaitProof,

    /// <summary>It has the token; what it asked for is still to be judged.</summary>
    Proved,

    /// <summary>It is a rank of the group to be.</summary>
    Admitted,

    /// <summary>It holds its ties and waits for the commit.</summary>
    Ready,
}

/// <summary>One connection at rank 0, from its first byte to the commit. Steps on with each packet, never waits.</summary>
internal sealed class JoinConnection(PacketSocket socket, int processId, long deadline) : IDisposable
{
    private byte[] _hello = [];
    private byte[] _challenge = [];

    public PacketSocket Socket { get; } = socket;

    /// <summary>As the kernel knows it; as it calls itself where it has no number here, being in another container.</summary>
    public int ProcessId => processId > 0 ? processId : Hello.ProcessId;

    /// <summary>What carries it, if it comes from another machine.</summary>
    public StreamRelay? Relay { get; init; }

    /// <summary>Until when it must have been admitted, in <see cref="Environment.TickCount64"/>.</summary>
    public long Deadline { get; } = deadline;

    public JoinStep Step { get; set; }

    public Hello Hello { get; private set; }

    /// <summary>Taken when it connected, while its process surely was the one of that number.</summary>
    public SafeFileHandle? Process { get; init; }

    public static SafeFileHandle? OpenProcess(int processId)
    {
        int fd = processId > 0 ? Libc.pidfd_open(processId) : -1;
        return fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
    }

    /// <summary>Takes one frame; false ends the connection.</summary>
    public bool Take(ReadOnlySpan<byte> frame, JobToken token)
    {
        switch (Step)
        {
            case JoinStep.AwaitHello when JoinFrames.Is(frame, JoinFrame.Hello, Hello.Bytes):
                _hello = frame.ToArray();
                Hello = Hello.Parse(frame);
                _challenge = Challenge(token);
                Step = JoinStep.AwaitProof;
                return Socket.Send(_challenge) == SendResult.Sent;
            case JoinStep.AwaitProof when JoinFrames.Is(frame, JoinFrame.Proof, JoinFrames.ProofBytes):
                if (IsProof(frame[JoinFrames.HeaderBytes..], token)) Step = JoinStep.Proved;
                else Refuse(new Refusal(RefusalReason.NotAuthenticated));
                return Step == JoinStep.Proved;
            case JoinStep.Admitted when JoinFrames.Is(frame, JoinFrame.Ready, JoinFrames.HeaderBytes):
                Step = JoinStep.Ready;
                return true;
            default:
                return false;
        }
    }

    public void Refuse(Refusal refusal) => Socket.Send(refusal.ToFrame());

    public void Dispose()
    {
        Socket.Dispose();
        Process?.Dispose();
    }

    /// <summary>Rank 0 proves itself first, so that a rank gives its own proof to nobody else.</summary>
    private byte[] Challenge(JobToken token)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Challenge, JoinFrames.ChallengeBytes);
        RandomNumberGenerator.Fill(frame.AsSpan(JoinFrames.HeaderBytes, JoinFrames.NonceBytes));
        ReadOnlySpan<byte> signed = frame.AsSpan(0, JoinFrames.ChallengeSignedBytes);
        token.Prove(JoinFrames.ServerRole, _hello, signed, frame.AsSpan(JoinFrames.ChallengeSignedBytes));
        return frame;
    }

    private bool IsProof(ReadOnlySpan<byte> proof, JobToken token)
    {
        Span<byte> expected = stackalloc byte[JobToken.ProofBytes];
        token.Prove(JoinFrames.ClientRole, _hello, _challenge.AsSpan(0, JoinFrames.ChallengeSignedBytes), expected);
        return CryptographicOperations.FixedTimeEquals(proof, expected);
    }
}

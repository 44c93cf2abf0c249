namespace Switchyard.Rendezvous.Network;

/// <summary>The side of a connection that knocked at a <see cref="Gate"/>. Waits on the calling thread, which is its own.</summary>
/// <param name="socket">The connection.</param>
/// <param name="options">Who calls, for errors.</param>
/// <param name="ct">Ends every wait.</param>
internal sealed class Caller(PacketSocket socket, ExpertGroupOptions options, CancellationToken ct)
{
    private const int SliceMs = 20; // how long a cancellation may go unnoticed
    private readonly byte[] _buffer = new byte[LinkFrame.MaxBytes];

    /// <summary>Proves the key to each other. Returns the gate's verdict; null where it closed before: it was ending, or too busy.</summary>
    /// <exception cref="JoinException">The gate has another key, or refused.</exception>
    public byte[]? Knock(JobToken key, byte[] hello, Func<string> wrongKey)
    {
        Send(hello);
        if (Receive() is not { } challenge) return null;
        if (!JoinFrames.Is(challenge, JoinFrame.Challenge, JoinFrames.ChallengeBytes)) throw Malformed();
        byte[] proof = key.Answer(hello, challenge) ?? throw new JoinException(wrongKey());
        Send(proof);
        return Receive();
    }

    /// <summary>Sends a frame. Where the other side has closed, what it said before is still to be received.</summary>
    public void Send(byte[] frame) => socket.Send(frame);

    /// <summary>The next frame; null where the connection is closed. Throws for a refusal.</summary>
    public byte[]? Receive()
    {
        int length;
        while ((length = socket.Receive(_buffer, [])) < 0)
        {
            ct.ThrowIfCancellationRequested();
            PollSet.IsReadable(socket.Descriptor, SliceMs);
        }
        if (length == 0) return null;
        if (length > _buffer.Length) throw Malformed();
        byte[] frame = _buffer[..length];
        if (JoinFrames.Is(frame, JoinFrame.Refused, Refusal.Bytes)) throw Refusal.Parse(frame).ToException(options);
        return frame;
    }

    public static ProtocolException Malformed() => new(-1, "A peer sent a malformed frame while the group was joining.");
}

namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>What a rank tells all others after a step of the join: that it went well, with what it rests on, or why not.</summary>
internal sealed record Verdict(string? Fault, byte[] Seal)
{
    public const int Bytes = 48 + FaultBytes;
    public const int SealBytes = JobToken.ProofBytes;
    private const int FaultBytes = 512;
    private const int SealAt = 16;
    private const int FaultAt = SealAt + SealBytes;

    public byte[] ToFrame()
    {
        byte[] frame = JoinFrames.New(JoinFrame.Verdict, Bytes);
        frame[8] = (byte)(Fault is null ? 1 : 0);
        Seal.CopyTo(frame, SealAt);
        if (Fault is not null) JoinFrames.WriteText(frame.AsSpan(FaultAt), Fault);
        return frame;
    }

    public static Verdict? Parse(ReadOnlySpan<byte> frame) => JoinFrames.Is(frame, JoinFrame.Verdict, Bytes)
        ? new Verdict(frame[8] == 1 ? null : JoinFrames.ReadText(frame[FaultAt..]), frame[SealAt..FaultAt].ToArray())
        : null;
}

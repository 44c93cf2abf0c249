using System.Buffers.Binary;
using System.Numerics;

namespace Switchyard.Rendezvous;

internal enum RefusalReason : byte
{
    /// <summary>Said to whom has not the token; all other reasons are told only after the proof.</summary>
    NotAuthenticated = 1,
    WrongVersion = 2,
    WrongJob = 3,
    WrongSize = 4,
    RankOutOfRange = 5,
    WrongGeneration = 6,
    RankTaken = 7,
    JobComplete = 8,
    TimedOut = 9,
    RankLost = 10,
    Cancelled = 11,

    /// <summary>Said to whom shows no certificate of the authority, before anything else.</summary>
    NoCertificate = 12,
}

/// <summary>Why rank 0 turns a rank away, with two numbers that say which.</summary>
internal readonly record struct Refusal(RefusalReason Reason, long First = 0, long Second = 0)
{
    public const int Bytes = 32;

    public byte[] ToFrame()
    {
        byte[] frame = JoinFrames.New(JoinFrame.Refused, Bytes);
        frame[8] = (byte)Reason;
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(16), First);
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(24), Second);
        return frame;
    }

    public static Refusal Parse(ReadOnlySpan<byte> frame) => new(
        (RefusalReason)frame[8], BinaryPrimitives.ReadInt64LittleEndian(frame[16..]), BinaryPrimitives.ReadInt64LittleEndian(frame[24..]));

    public JoinException ToException(ExpertGroupOptions options) => new(Reason switch
    {
        RefusalReason.NotAuthenticated => WrongToken(options),
        RefusalReason.WrongVersion => $"Rank 0 of job '{options.Job}' speaks version {First} of the protocol, this rank {Second}: "
            + "start all ranks from the same version of Switchyard.",
        RefusalReason.WrongJob => $"Rank 0 listens for another job than '{options.Job}': choose another SWITCHYARD_JOB.",
        RefusalReason.WrongSize => $"Job '{options.Job}' has {First} ranks, this rank was given size {Second}: "
            + "give all ranks the same ExpertGroupOptions.Size (SWITCHYARD_WORLD_SIZE).",
        RefusalReason.RankOutOfRange => $"Job '{options.Job}' has ranks 0 to {First - 1}, this one is {Second}: correct SWITCHYARD_RANK.",
        RefusalReason.WrongGeneration => $"Job '{options.Job}' is at membership {First}, this rank asked for {Second}: it was left behind.",
        RefusalReason.RankTaken => $"Rank {First} of job '{options.Job}' is taken by process {Second}: "
            + "give each process its own SWITCHYARD_RANK.",
        RefusalReason.JobComplete => $"Job '{options.Job}' is complete; rank {First} is taken by process {Second}. "
            + "Choose another SWITCHYARD_JOB for another job.",
        RefusalReason.TimedOut => $"Job '{options.Job}' did not come together: {Missing((ulong)First)} before rank 0's JoinTimeout.",
        RefusalReason.RankLost => $"Rank {First} of job '{options.Job}' (process {Second}) went away while the group was joining.",
        RefusalReason.NoCertificate => $"Job '{options.Job}' takes only ranks with a certificate of its authority: give all ranks "
            + "TlsCertificateFile, TlsKeyFile and TlsAuthorityFile of one authority (SWITCHYARD_TLS_CERTIFICATE_FILE, ...), or none.",
        RefusalReason.Cancelled => $"Rank 0 of job '{options.Job}' gave up joining.",
        _ => $"Rank 0 of job '{options.Job}' refused this rank for an unknown reason ({(int)Reason}).",
    });

    public static string WrongToken(ExpertGroupOptions options) =>
        $"Rank 0 of job '{options.Job}' holds another token than this rank: give all ranks the same ExpertGroupOptions.TokenFile "
        + "(SWITCHYARD_TOKEN_FILE), or none of them.";

    /// <summary>The ranks whose bits are set.</summary>
    public static string Missing(ulong ranks)
    {
        var numbers = new List<int>();
        for (; ranks != 0; ranks &= ranks - 1) numbers.Add(BitOperations.TrailingZeroCount(ranks));
        return numbers.Count == 1 ? $"rank {numbers[0]} did not come" : $"ranks {string.Join(", ", numbers)} did not come";
    }
}

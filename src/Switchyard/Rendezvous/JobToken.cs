using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>The secret that the ranks of a job share. It is only ever in a file of mode 0600 and in memory.</summary>
internal sealed class JobToken
{
    public const int ProofBytes = HMACSHA256.HashSizeInBytes;
    private const int Bytes = 32;
    private const int MaxFileBytes = 256;
    private readonly byte[] _secret;

    private JobToken(byte[] secret) => _secret = secret;

    /// <summary>Makes a new token and its file, replacing one that an earlier run left.</summary>
    public static JobToken Create(string path)
    {
        byte[] secret = RandomNumberGenerator.GetBytes(Bytes);
        string draft = $"{path}.{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8))}";
        int fd = Libc.open(draft, Libc.O_RDWR | Libc.O_CREAT | Libc.O_EXCL | Libc.O_CLOEXEC, Libc.OwnerReadWrite);
        if (fd < 0) throw new TransportException("open", Marshal.GetLastPInvokeError(), $"Cannot make the job's token '{draft}'.");
        using (var file = new SafeFileHandle(fd, ownsHandle: true))
            RandomAccess.Write(file, Encoding.ASCII.GetBytes(Convert.ToHexStringLower(secret) + "\n"), 0);
        File.Move(draft, path, overwrite: true);
        return new JobToken(secret);
    }

    /// <summary>Reads a token; the file must be this user's and closed to all others.</summary>
    public static JobToken Read(string path)
    {
        // Non-blocking, lest a pipe in the file's place holds us up.
        int fd = Libc.open(path, Libc.O_CLOEXEC | Libc.O_NOCTTY | Libc.O_NONBLOCK, 0);
        if (fd < 0)
        {
            throw new JoinException($"The job's token file '{path}' cannot be opened: {Marshal.GetLastPInvokeErrorMessage()}. "
                + "Give all ranks the same ExpertGroupOptions.TokenFile (SWITCHYARD_TOKEN_FILE), or none of them.");
        }
        using var file = new SafeFileHandle(fd, ownsHandle: true);
        FileStatus status = FileStatus.Of(file);
        string? fault = status switch
        {
            { IsRegular: false } => "is not a regular file",
            { IsOwn: false } => $"belongs to user {status.UserId}, not to this process's user {Libc.geteuid()}: give it to that user",
            { IsPrivate: false } => $"can be read by others (mode {status.Permissions}): chmod 600 '{path}', with a fresh token",
            _ => null,
        };
        if (fault is not null) throw new JoinException($"The job's token file '{path}' {fault}.");
        return new JobToken(Parse(file) ?? throw new JoinException(
            $"The job's token file '{path}' does not hold a token: 64 hexadecimal digits, as 'openssl rand -hex 32' writes."));
    }

    /// <summary>Proves possession of the token over the parts, in order.</summary>
    public void Prove(ReadOnlySpan<byte> role, ReadOnlySpan<byte> hello, ReadOnlySpan<byte> challenge, Span<byte> proof)
    {
        using IncrementalHash hash = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, _secret);
        hash.AppendData(role);
        hash.AppendData(hello);
        hash.AppendData(challenge);
        hash.GetHashAndReset(proof);
    }

    /// <summary>A key for one purpose, from a token or from nothing but the data.</summary>
    public static JobToken Derive(JobToken? token, ReadOnlySpan<byte> purpose, ReadOnlySpan<byte> data)
    {
        var secret = new byte[Bytes];
        (token ?? new JobToken(new byte[Bytes])).Prove(purpose, data, default, secret);
        return new JobToken(secret);
    }

    /// <summary>Answers a challenge as a member does; null where the challenger has not this token.</summary>
    public byte[]? Answer(ReadOnlySpan<byte> hello, ReadOnlySpan<byte> challenge)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Proof, JoinFrames.ProofBytes);
        ReadOnlySpan<byte> signed = challenge[..JoinFrames.ChallengeSignedBytes];
        Span<byte> proof = frame.AsSpan(JoinFrames.HeaderBytes);
        Prove(JoinFrames.ServerRole, hello, signed, proof);
        if (!CryptographicOperations.FixedTimeEquals(proof, challenge[JoinFrames.ChallengeSignedBytes..])) return null;
        Prove(JoinFrames.ClientRole, hello, signed, proof);
        return frame;
    }

    private static byte[]? Parse(SafeFileHandle file)
    {
        Span<byte> text = stackalloc byte[MaxFileBytes];
        int length = RandomAccess.Read(file, text, 0);
        ReadOnlySpan<byte> digits = text[..length].Trim(" \t\r\n"u8);
        var secret = new byte[Bytes];
        bool whole = digits.Length == 2 * Bytes
            && Convert.FromHexString(digits, secret, out _, out _) == System.Buffers.OperationStatus.Done;
        return whole ? secret : null;
    }
}

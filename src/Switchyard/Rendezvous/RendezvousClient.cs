using System.Buffers.Binary;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;
using Switchyard.Protocol;

namespace Switchyard.Rendezvous;

/// <summary>
/// The joining as every rank but 0 does it, on a thread of its own: find rank 0, prove the token to each other, receive the ties.
/// </summary>
internal sealed class RendezvousClient
{
    /// <summary>Of a rank that joins for the first time, and takes whatever membership there is.</summary>
    public const long AnyGeneration = 0;

    private const int SliceMs = 20; // how long a cancellation may go unnoticed
    private const int MaxBackOffMs = 50;

    /// <summary>Ranks of a group that grows began to wait together: rank 0's verdict on who is missing comes before they give up.</summary>
    private const int VerdictMs = 1000;

    private readonly ExpertGroupOptions _options;
    private readonly long _generation;
    private readonly MeetingPlace _place;
    private readonly CancellationToken _ct;
    private readonly long _deadline;
    private readonly byte[] _buffer = new byte[JoinFrames.MaxBytes];
    private readonly List<SafeFileHandle> _descriptors = [];
    private ulong _present;

    private RendezvousClient(ExpertGroupOptions options, long generation, CancellationToken ct)
    {
        _options = options;
        _generation = generation;
        _place = MeetingPlace.Open(options);
        _ct = ct;
        _deadline = Environment.TickCount64 + (long)options.JoinTimeout.TotalMilliseconds + (generation == AnyGeneration ? 0 : VerdictMs);
    }

    public static Task<Membership> JoinAsync(ExpertGroupOptions options, long generation, CancellationToken ct)
    {
        var client = new RendezvousClient(options, generation, ct);
        return Task.Factory.StartNew(client.Join, ct, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    private Membership Join()
    {
        for (int backOffMs = 1; ; backOffMs = Math.Min(2 * backOffMs, MaxBackOffMs))
        {
            using PacketSocket? socket = PacketSocket.TryConnect(_place.SocketPath);
            try
            {
                if (socket is not null && Authenticate(socket)) return ReceiveMembership(socket);
            }
            catch (JoinException) when (_options.IsNewcomer && Environment.TickCount64 < _deadline)
            {
                // There is no place for it yet.
            }
            ThrowIfOver();
            Thread.Sleep(backOffMs);
        }
    }

    /// <summary>False where rank 0 closed before it answered: it was ending, or too busy. Another attempt may succeed.</summary>
    private bool Authenticate(PacketSocket socket)
    {
        Ucred server = socket.PeerCredentials();
        if (server.UserId != Libc.geteuid())
        {
            string user = UserNamespace.Has(server.UserId) ? $"user {server.UserId}" : $"a user who has no number in this process's user namespace ({UserNamespace.Remedy})";
            throw new JoinException($"The socket '{_place.SocketPath}' belongs to {user}, not to this process's user {Libc.geteuid()}.");
        }
        // Read only now: rank 0 writes its token before it listens, so this is not one that an earlier run left.
        JobToken token = JobToken.Read(_options.TokenFile ?? _place.TokenPath);

        Member self = Member.Self;
        var claim = new Hello(
            JoinFrames.Version, _options.Rank, _options.Size, self.ProcessId, _generation, self.StartTime, _options.Job, self.Host);
        byte[] hello = claim.ToFrame(RandomNumberGenerator.GetBytes(JoinFrames.NonceBytes));
        FaultPoints.Pass(FaultPoint.JoinHello);
        if (socket.Send(hello) != SendResult.Sent || Receive(socket) is not { Length: > 0 } challenge) return false;
        if (!JoinFrames.Is(challenge, JoinFrame.Challenge, JoinFrames.ChallengeBytes)) throw Malformed();

        byte[] proof = token.Answer(hello, challenge) ?? throw new JoinException(Refusal.WrongToken(_options));
        FaultPoints.Pass(FaultPoint.JoinProof);
        if (socket.Send(proof) != SendResult.Sent || Receive(socket) is not { Length: > 0 } verdict) return false;
        TakePresent(verdict);
        return true;
    }

    private Membership ReceiveMembership(PacketSocket socket)
    {
        byte[] frame;
        while (Membership.Parse(frame = ReceiveWhole(socket), _options.Size) is null) TakePresent(frame);
        (long generation, Member[] members) = Membership.Parse(frame, _options.Size)!.Value;
        if (generation < ControlChannel.FirstGeneration || (_generation != AnyGeneration && generation != _generation)) throw Malformed();

        var membership = new Membership(_options.Rank, generation, members, new PeerTie?[members.Length]);
        try
        {
            for (int i = 1; i < members.Length; i++) ReceiveTie(socket, membership);
            FaultPoints.Pass(FaultPoint.JoinReady);
            socket.Send(JoinFrames.New(JoinFrame.Ready, JoinFrames.HeaderBytes));
            if (!JoinFrames.Is(ReceiveWhole(socket), JoinFrame.Commit, JoinFrames.HeaderBytes)) throw Malformed();
            return membership;
        }
        catch
        {
            membership.Dispose();
            throw;
        }
    }

    private void ReceiveTie(PacketSocket socket, Membership membership)
    {
        byte[] frame = ReceiveWhole(socket);
        bool isTie = JoinFrames.Is(frame, JoinFrame.Link, JoinFrames.LinkBytes);
        int peer = isTie ? BinaryPrimitives.ReadUInt16LittleEndian(frame.AsSpan(8)) : -1;
        bool fits = peer >= 0 && peer < membership.Ties.Length && peer != membership.Rank && membership.Ties[peer] is null
            && BinaryPrimitives.ReadInt64LittleEndian(frame.AsSpan(16)) == membership.Generation && _descriptors.Count is 1 or 2;
        if (!fits)
        {
            DropDescriptors();
            throw Malformed();
        }
        membership.Ties[peer] = new PeerTie(new PacketSocket(_descriptors[0]), _descriptors.ElementAtOrDefault(1));
        _descriptors.Clear();
    }

    private void TakePresent(byte[] frame)
    {
        if (!JoinFrames.Is(frame, JoinFrame.Present, JoinFrames.PresentBytes)) throw Malformed();
        _present = BinaryPrimitives.ReadUInt64LittleEndian(frame.AsSpan(8));
    }

    private byte[] ReceiveWhole(PacketSocket socket) =>
        Receive(socket) is { Length: > 0 } frame
            ? frame
            : throw new JoinException($"Rank 0 of job '{_options.Job}' went away while the group was joining.");

    /// <summary>Waits for a frame; empty where rank 0 closed. Throws for a refusal.</summary>
    private byte[] Receive(PacketSocket socket)
    {
        int length;
        while ((length = socket.Receive(_buffer, _descriptors)) < 0)
        {
            ThrowIfOver();
            PollSet.IsReadable(socket.Descriptor, (int)Math.Clamp(_deadline - Environment.TickCount64, 0, SliceMs));
        }
        bool isWhole = length <= _buffer.Length;
        byte[] frame = isWhole ? _buffer[..length] : [];
        if (!JoinFrames.Is(frame, JoinFrame.Link, JoinFrames.LinkBytes)) DropDescriptors();
        if (!isWhole) throw Malformed();
        if (JoinFrames.Is(frame, JoinFrame.Refused, Refusal.Bytes)) throw Refusal.Parse(frame).ToException(_options);
        return frame;
    }

    private void DropDescriptors()
    {
        foreach (SafeFileHandle descriptor in _descriptors) descriptor.Dispose();
        _descriptors.Clear();
    }

    private void ThrowIfOver()
    {
        _ct.ThrowIfCancellationRequested();
        if (Environment.TickCount64 < _deadline) return;
        ulong all = _options.Size == Limits.MaxRanks ? ulong.MaxValue : (1ul << _options.Size) - 1;
        string missing = _present == 0 ? "rank 0 did not answer" : Refusal.Missing(all & ~_present);
        throw new JoinException(
            $"Rank {_options.Rank} could not join job '{_options.Job}' within JoinTimeout ({_options.JoinTimeout.TotalSeconds:0.###} s): "
            + $"{missing} at '{_place.SocketPath}'. Were all ranks started with the same SWITCHYARD_JOB and SWITCHYARD_DIRECTORY?");
    }

    private static ProtocolException Malformed() => new(0, "it sent a malformed frame while the group was joining");
}

using System.Buffers.Binary;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>Where a rank lets in the ranks above it, each once: a connection that is let in is the tie to that rank.</summary>
internal sealed class MeshGate : Gate
{
    private readonly int _rank;
    private readonly Roster _roster;
    private readonly PeerTie?[] _ties;
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource _all = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _isTaken;

    public MeshGate(int rank, Roster roster, JobToken key, PacketSocket listener)
        : base($"Switchyard mesh, rank {rank}", KeyOf(key, rank), listener)
    {
        _rank = rank;
        _roster = roster;
        _ties = new PeerTie?[roster.Cards.Length];
        if (Missing() == 0) _all.SetResult();
    }

    /// <summary>Completes when all higher ranks are tied.</summary>
    public Task All => _all.Task;

    /// <summary>A rank's key of its own, so that who is let in at one rank's door cannot be led there from another's.</summary>
    public static JobToken KeyOf(JobToken key, int rank)
    {
        Span<byte> number = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(number, (ushort)rank);
        return JobToken.Derive(key, "switchyard door"u8, number);
    }

    /// <summary>The higher ranks that have not come, a bit each.</summary>
    public ulong Missing()
    {
        lock (_lock)
        {
            ulong missing = 0;
            for (int rank = _rank + 1; rank < _ties.Length; rank++) missing |= _ties[rank] is null ? 1ul << rank : 0;
            return missing;
        }
    }

    /// <summary>The ties by rank, which are the caller's from now on.</summary>
    public PeerTie?[] TakeTies()
    {
        lock (_lock)
        {
            _isTaken = true;
            return _ties;
        }
    }

    protected override bool Admit(JoinConnection connection)
    {
        int rank = connection.Hello.Rank;
        if (!IsExpected(connection)) return false;
        lock (_lock)
        {
            if (_isTaken || _ties[rank] is not null)
            {
                connection.Refuse(new Refusal(RefusalReason.RankTaken, rank, _roster.Cards[rank].Hello.ProcessId));
                return false;
            }
            // Told before its tie is anybody else's to send on.
            if (connection.Socket.Send(JoinFrames.New(JoinFrame.Commit, JoinFrames.HeaderBytes)) != SendResult.Sent) return false;
            Detach(connection);
            _ties[rank] = new PeerTie(connection.Socket, connection.Process, connection.Relay);
        }
        if (Missing() == 0) _all.TrySetResult();
        return true;
    }

    protected override bool Take(JoinConnection connection, ReadOnlySpan<byte> frame) => false;

    protected override void OnEnded(JoinConnection connection)
    {
    }

    protected override void OnClosing()
    {
        lock (_lock)
        {
            if (_isTaken) return;
            _isTaken = true;
            foreach (PeerTie? tie in _ties) tie?.Dispose();
        }
    }

    /// <summary>Whether it is the higher rank of its card, and on this machine that very process.</summary>
    private bool IsExpected(JoinConnection connection)
    {
        Hello hello = connection.Hello;
        if (hello.Rank <= _rank || hello.Rank >= _ties.Length || hello != _roster.Cards[hello.Rank].Hello) return false;
        bool isLocal = connection.Relay is null;
        if (isLocal != _roster.AreOfOneMachine(_rank, hello.Rank)) return false;
        return !isLocal || (connection.ProcessId == hello.ProcessId && IsProcess(hello, connection.Process));
    }

    /// <summary>
    /// Whether the process is still the one of the card. Asked when there is a descriptor of it: were its number another's by now, that
    /// one would have begun later.
    /// </summary>
    public static bool IsProcess(Hello hello, SafeFileHandle? process) =>
        process is null || Member.StartTimeOf(hello.ProcessId.ToString(CultureInfo.InvariantCulture)) == hello.StartTime;
}

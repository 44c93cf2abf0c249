using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>Connects a rank to those below it, one after another, on a thread of its own.</summary>
internal sealed class MeshCaller(Roster roster, JobToken key, ExpertGroupOptions options, TlsIdentity? tls, JoinClock clock)
{
    private const int MaxBackOffMs = 50;
    private readonly int _rank = options.Rank;
    private string _lastFailure = "it did not answer";

    /// <summary>Puts a tie to each lower rank into its place; those made before a failure stay there, for the caller to dispose.</summary>
    public Task TieAsync(PeerTie?[] ties) => Task.Factory.StartNew(
        () => TieAll(ties), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private void TieAll(PeerTie?[] ties)
    {
        for (int rank = 0; rank < _rank; rank++)
        {
            try
            {
                ties[rank] = Tie(rank);
            }
            catch (OperationCanceledException) when (clock.IsOver)
            {
                throw clock.Late(_rank, $"rank {rank} could not be reached at {PlaceOf(rank)}: {_lastFailure}");
            }
        }
    }

    private PeerTie Tie(int rank)
    {
        for (int backOffMs = 1; ; backOffMs = Math.Min(2 * backOffMs, MaxBackOffMs))
        {
            PeerTie? tie = roster.AreOfOneMachine(_rank, rank) ? TieHere(rank) : TieThere(rank);
            if (tie is not null) return tie;
            if (clock.Token.WaitHandle.WaitOne(backOffMs)) clock.Token.ThrowIfCancellationRequested();
        }
    }

    private PeerTie? TieHere(int rank)
    {
        PacketSocket? socket = PacketSocket.TryConnect(roster.Cards[rank].DoorName);
        SafeFileHandle? process = null;
        try
        {
            if (socket is null) return null;
            Hello hello = roster.Cards[rank].Hello;
            Ucred peer = socket.PeerCredentials();
            process = JoinConnection.OpenProcess(peer.ProcessId);
            if (peer.UserId != Libc.geteuid() || peer.ProcessId != hello.ProcessId || !MeshGate.IsProcess(hello, process))
                throw new JoinException($"The socket of rank {rank} belongs to process {peer.ProcessId} of user {peer.UserId}; "
                    + $"the rank is process {hello.ProcessId} of user {Libc.geteuid()}.");
            if (!IsLetIn(socket, rank)) return null;
            var tie = new PeerTie(socket, process);
            (socket, process) = (null, null);
            return tie;
        }
        finally
        {
            process?.Dispose();
            socket?.Dispose();
        }
    }

    private PeerTie? TieThere(int rank)
    {
        StreamRelay relay;
        try
        {
            relay = TcpLine.ConnectAsync(roster.Cards[rank].Address!, tls, clock.Token).GetAwaiter().GetResult().Relay;
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            _lastFailure = e.Message;
            return null;
        }
        bool isTied = false;
        try
        {
            isTied = IsLetIn(relay.Near, rank);
            relay.Trust();
            return isTied ? new PeerTie(relay.Near, null, relay) : null;
        }
        finally
        {
            if (!isTied)
            {
                _lastFailure = relay.Fault ?? "it closed the connection";
                relay.Dispose();
            }
        }
    }

    private bool IsLetIn(PacketSocket socket, int rank)
    {
        byte[] hello = roster.Cards[_rank].Hello.ToFrame(RandomNumberGenerator.GetBytes(JoinFrames.NonceBytes));
        byte[]? verdict = new Caller(socket, options, clock.Token).Knock(
            MeshGate.KeyOf(key, rank), hello, () => $"Who answers at {PlaceOf(rank)} is not rank {rank}: it has not the job's key.");
        if (verdict is not null && !JoinFrames.Is(verdict, JoinFrame.Commit, JoinFrames.HeaderBytes)) throw Caller.Malformed();
        return verdict is not null;
    }

    private string PlaceOf(int rank) => roster.AreOfOneMachine(_rank, rank)
        ? $"its socket @{roster.Cards[rank].DoorName[1..]}"
        : $"{roster.Cards[rank].Address} on host {roster.Cards[rank].Hello.Host}";
}

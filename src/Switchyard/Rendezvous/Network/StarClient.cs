using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Switchyard.Rendezvous.Bootstrap;

namespace Switchyard.Rendezvous.Network;

/// <summary>The side of every rank but 0 in an all-gather over TCP.</summary>
internal sealed class StarClient : IDisposable
{
    private const int MaxBackOffMs = 50;
    private readonly ExpertGroupOptions _options;
    private readonly JoinClock _clock;
    private readonly StreamRelay _relay;
    private readonly Caller _caller;
    private Task _gathering = Task.CompletedTask;
    private ulong _present;
    private int _round;

    private StarClient(ExpertGroupOptions options, JoinClock clock, StreamRelay relay, IPAddress local)
    {
        _options = options;
        _clock = clock;
        _relay = relay;
        Local = local;
        _caller = new Caller(relay.Near, options, clock.Token);
    }

    /// <summary>The address of this machine from which rank 0 is reached.</summary>
    public IPAddress Local { get; }

    /// <summary>Connects and is let in, trying again until the time is over.</summary>
    public static async Task<StarClient> ConnectAsync(
        ExpertGroupOptions options, NetworkAddress address, JobToken key, TlsIdentity? tls, JoinClock clock)
    {
        string lastFailure = "it did not answer";
        try
        {
            for (int backOffMs = 1; ; backOffMs = Math.Min(2 * backOffMs, MaxBackOffMs))
            {
                try
                {
                    IPEndPoint end = await address.ResolveAsync(clock.Token).ConfigureAwait(false);
                    (StreamRelay relay, IPAddress local) = await TcpLine.ConnectAsync(end, tls, clock.Token).ConfigureAwait(false);
                    var client = new StarClient(options, clock, relay, local);
                    if (await client.IsLetInAsync(key).ConfigureAwait(false)) return client;
                    lastFailure = relay.Fault ?? "it closed the connection";
                }
                catch (Exception e) when (e is SocketException or IOException)
                {
                    lastFailure = e.Message;
                }
                await Task.Delay(backOffMs, clock.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (clock.IsOver)
        {
            throw clock.Late(options.Rank, $"rank 0 of job '{options.Job}' could not be reached at {address}: {lastFailure.TrimEnd('.')}. Were all "
                + "ranks started with the same SWITCHYARD_ADDRESS, and all or none with TLS");
        }
    }

    /// <summary>Gives this rank's bytes; returns what all ranks gave.</summary>
    public Task<byte[][]> GatherAsync(ReadOnlyMemory<byte> mine, CancellationToken ct)
    {
        Task<byte[][]> gathering = Task.Factory.StartNew(
            () => Gather(mine.Span), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        _gathering = gathering;
        return gathering;
    }

    public void Dispose()
    {
        Task.WaitAny(_gathering); // it reads the socket; where it was abandoned, the time is over and it ends
        _relay.Dispose();
    }

    private async Task<bool> IsLetInAsync(JobToken key)
    {
        bool isLetIn = false;
        try
        {
            isLetIn = await Task.Factory.StartNew(
                () => IsLetIn(key), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);
            return isLetIn;
        }
        finally
        {
            if (!isLetIn) Dispose();
        }
    }

    private bool IsLetIn(JobToken key)
    {
        Member self = Member.Self;
        var claim = new Hello(JoinFrames.Version, _options.Rank, _options.Size, self.ProcessId, ControlChannel.FirstGeneration,
            self.StartTime, _options.Job, self.Host);
        byte[]? verdict = _caller.Knock(
            key, claim.ToFrame(RandomNumberGenerator.GetBytes(JoinFrames.NonceBytes)), () => Refusal.WrongToken(_options));
        if (verdict is null) return false;
        TakePresent(verdict);
        _relay.Trust();
        return true;
    }

    private byte[][] Gather(ReadOnlySpan<byte> mine)
    {
        int round = _round++;
        _caller.Send(Star.Give(round, mine));
        try
        {
            while (true)
            {
                byte[] frame = _caller.Receive() ?? throw WentAway();
                if (Star.ParseGathered(frame, round, _options.Size) is { } all) return all;
                TakePresent(frame);
            }
        }
        catch (OperationCanceledException) when (_clock.IsOver)
        {
            ulong everybody = ulong.MaxValue >> (64 - _options.Size);
            throw _clock.Late(_options.Rank, _present == everybody ? "not all ranks went on" : Refusal.Missing(everybody & ~_present));
        }
    }

    private void TakePresent(byte[] frame)
    {
        if (!JoinFrames.Is(frame, JoinFrame.Present, JoinFrames.PresentBytes)) throw Caller.Malformed();
        _present = BinaryPrimitives.ReadUInt64LittleEndian(frame.AsSpan(8));
    }

    private JoinException WentAway() => new($"Rank 0 of job '{_options.Job}' went away while the group was joining"
        + (_relay.Fault is { } fault ? $": {fault}." : "."));
}

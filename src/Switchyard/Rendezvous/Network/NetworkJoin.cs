using System.Net;
using System.Net.Sockets;
using Switchyard.Rendezvous.Bootstrap;

namespace Switchyard.Rendezvous.Network;

/// <summary>Joins ranks of several machines: an all-gather over rank 0's address is the bootstrap for all else.</summary>
internal static class NetworkJoin
{
    /// <summary>The membership and, on rank 0, what turns latecomers away until it is disposed.</summary>
    public static async Task<(Membership Membership, IDisposable? Server)> RunAsync(
        ExpertGroupOptions options, byte[] machine, CancellationToken ct)
    {
        NetworkAddress address = NetworkAddress.Parse(options.Address!)!;
        JobToken token = JobToken.Read(options.TokenFile!);
        JobToken key = JobToken.Derive(token, "switchyard star"u8, default);
        TlsIdentity? tls = TlsIdentity.Load(options);
        using var clock = new JoinClock(options.JoinTimeout, ct);
        var setup = new BootstrapSetup(machine, NetworkAddress.ParseBind(options.BindAddress), token, tls);
        return options.Rank == 0
            ? await ServeAsync(options, address, key, setup, clock).ConfigureAwait(false)
            : (await CallAsync(options, address, key, setup, clock).ConfigureAwait(false), null);
    }

    private static async Task<(Membership Membership, IDisposable? Server)> ServeAsync(
        ExpertGroupOptions options, NetworkAddress address, JobToken key, BootstrapSetup setup, JoinClock clock)
    {
        IPEndPoint end = await ResolveAsync(address, clock).ConfigureAwait(false);
        TcpDoor door = TcpDoor.Open(end, "ExpertGroupOptions.Address (SWITCHYARD_ADDRESS)", setup.Tls);
        StarServer server = StarServer.Start(options, key, door);
        try
        {
            BootstrapSetup reachable = setup with { Bind = setup.Bind ?? end.Address };
            Membership membership = await BootstrapJoin.RunAsync(
                options, reachable, (mine, ct) => GatherAsync(server, mine, options, clock), clock).ConfigureAwait(false);
            return (membership, server);
        }
        catch
        {
            server.Fail(new Refusal(RefusalReason.Cancelled));
            server.Dispose();
            throw;
        }
    }

    private static async Task<byte[][]> GatherAsync(
        StarServer server, ReadOnlyMemory<byte> mine, ExpertGroupOptions options, JoinClock clock)
    {
        try
        {
            return await server.GatherAsync(mine, clock.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (clock.IsOver)
        {
            var refusal = new Refusal(RefusalReason.TimedOut, (long)server.Missing);
            server.Fail(refusal);
            throw refusal.ToException(options);
        }
    }

    private static async Task<Membership> CallAsync(
        ExpertGroupOptions options, NetworkAddress address, JobToken key, BootstrapSetup setup, JoinClock clock)
    {
        using StarClient client = await StarClient.ConnectAsync(options, address, key, setup.Tls, clock).ConfigureAwait(false);
        BootstrapSetup reachable = setup with { Bind = setup.Bind ?? client.Local };
        return await BootstrapJoin.RunAsync(options, reachable, client.GatherAsync, clock).ConfigureAwait(false);
    }

    private static async Task<IPEndPoint> ResolveAsync(NetworkAddress address, JoinClock clock)
    {
        try
        {
            return await address.ResolveAsync(clock.Token).ConfigureAwait(false);
        }
        catch (SocketException e)
        {
            throw new JoinException($"The host of ExpertGroupOptions.Address '{address}' (SWITCHYARD_ADDRESS) is not known: {e.Message}", e);
        }
    }
}

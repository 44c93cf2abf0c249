using System.Net;
using System.Net.Sockets;

namespace Switchyard.Rendezvous.Network;

/// <summary>TCP connections as the control plane wants them: at once, and ended by the kernel when the other machine falls silent.</summary>
internal static class TcpLine
{
    /// <summary>
    /// After so long without an answer the other machine counts as gone. A probe each second of silence, and this limit, which also
    /// holds while bytes are under way: keepalive alone would then wait for all retransmissions.
    /// </summary>
    public const int SilenceMs = 1900;

    private const int TCP_USER_TIMEOUT = 18;
    private const int ReceiveBytes = 2 * StreamRelay.WindowBytes;

    public static Socket NewSocket(IPEndPoint end)
    {
        // The buffer's size must be known before connecting, for the window's scale.
        return new Socket(end.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = ReceiveBytes };
    }

    public static void Tune(Socket socket)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 1);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 1);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 2);
        socket.SetRawSocketOption((int)SocketOptionLevel.Tcp, TCP_USER_TIMEOUT, BitConverter.GetBytes(SilenceMs));
    }

    /// <summary>Connects, with TLS if there is an identity for it.</summary>
    /// <exception cref="SocketException">Nobody listens there, or the machine cannot be reached.</exception>
    /// <exception cref="IOException">The other side closed during the TLS handshake.</exception>
    /// <exception cref="JoinException">The other side's certificate is not of the given authority.</exception>
    public static async Task<(StreamRelay Relay, IPAddress Local)> ConnectAsync(IPEndPoint end, TlsIdentity? tls, CancellationToken ct)
    {
        Socket socket = NewSocket(end);
        Stream? stream = null;
        try
        {
            Tune(socket);
            await socket.ConnectAsync(end, ct).ConfigureAwait(false);
            IPAddress local = ((IPEndPoint)socket.LocalEndPoint!).Address;
            stream = new NetworkStream(socket);
            if (tls is not null) stream = await tls.AsClientAsync(stream, end, ct).ConfigureAwait(false);
            return (StreamRelay.Start(socket, _ => Task.FromResult(stream)), local);
        }
        catch
        {
            if (stream is not null) await stream.DisposeAsync().ConfigureAwait(false);
            socket.Dispose();
            throw;
        }
    }
}

using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Switchyard.Interop;

namespace Switchyard.Rendezvous.Network;

/// <summary>A TCP port at which ranks of other machines knock. What comes is handed to a <see cref="Gate"/>, once there is one.</summary>
internal sealed class TcpDoor : IDisposable
{
    private const int Backlog = 512;
    private const int SO_REUSEADDR = 2;
    private readonly Socket _listener;
    private readonly TlsIdentity? _tls;
    private Task _accepting = Task.CompletedTask;

    private TcpDoor(Socket listener, TlsIdentity? tls)
    {
        _listener = listener;
        _tls = tls;
    }

    public IPEndPoint Address => (IPEndPoint)_listener.LocalEndPoint!;

    /// <summary>Listens at that address only.</summary>
    /// <param name="at">The address; port 0 for any that is free.</param>
    /// <param name="option">The option it came from, for errors.</param>
    /// <param name="tls">Where connections are to be secured.</param>
    public static TcpDoor Open(IPEndPoint at, string option, TlsIdentity? tls)
    {
        Socket listener = TcpLine.NewSocket(at);
        try
        {
            // Not the ReuseAddress of the framework, which also lets two processes share a port.
            listener.SetRawSocketOption(Libc.SOL_SOCKET, SO_REUSEADDR, BitConverter.GetBytes(1));
            listener.Bind(at);
            listener.Listen(Backlog);
            return new TcpDoor(listener, tls);
        }
        catch (SocketException e)
        {
            listener.Dispose();
            throw new JoinException(e.SocketErrorCode switch
            {
                SocketError.AddressAlreadyInUse => $"The address {at} is taken by another process: give another port in {option}.",
                SocketError.AddressNotAvailable => $"The address {at} is not one of this machine's: correct {option}.",
                _ => $"Cannot listen at {at} ({option}): {e.Message}",
            }, e);
        }
    }

    public void OpenTo(Gate gate) => _accepting = AcceptAllAsync(gate);

    public void Dispose()
    {
        _listener.Dispose();
        _accepting.Wait();
    }

    private async Task AcceptAllAsync(Gate gate)
    {
        while (true)
        {
            Socket? socket = null;
            try
            {
                socket = await _listener.AcceptAsync().ConfigureAwait(false);
                TcpLine.Tune(socket);
                gate.Welcome(StreamRelay.Start(socket, Opening(socket)));
            }
            catch (Exception e) when (e is SocketException or TransportException)
            {
                socket?.Dispose();
                if (_listener.SafeHandle.IsClosed) return;
                await Task.Delay(5).ConfigureAwait(false); // out of descriptors, most likely
            }
            catch (ObjectDisposedException)
            {
                return;
            }
        }
    }

    private Func<CancellationToken, Task<Stream>> Opening(Socket socket) => _tls is null
        ? _ => Task.FromResult<Stream>(new NetworkStream(socket))
        : ct => SecureAsync(_tls, socket, ct);

    /// <summary>
    /// Secures a connection whose other side has a certificate of the authority. Others are told so, in a way that they understand,
    /// since TLS itself would only close.
    /// </summary>
    private static async Task<Stream> SecureAsync(TlsIdentity tls, Socket socket, CancellationToken ct)
    {
        Stream answer;
        try
        {
            (SslStream secured, bool isOfAuthority) = await tls.AsServerAsync(new NetworkStream(socket), ct).ConfigureAwait(false);
            if (isOfAuthority) return secured;
            answer = secured;
        }
        catch (AuthenticationException)
        {
            answer = new NetworkStream(socket); // it spoke without TLS, or failed in it: the answer is in the clear
        }
        await RefuseAsync(socket, answer, ct).ConfigureAwait(false);
        throw new AuthenticationException("It shows no certificate of the authority.");
    }

    private static async Task RefuseAsync(Socket socket, Stream answer, CancellationToken ct)
    {
        byte[] refusal = new Refusal(RefusalReason.NoCertificate).ToFrame();
        await answer.WriteAsync((byte[])[.. BitConverter.GetBytes(refusal.Length), .. refusal], ct).ConfigureAwait(false);
        socket.Shutdown(SocketShutdown.Send);
        // Closing with bytes unread would take the answer away again.
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(ct);
        limit.CancelAfter(StreamRelay.UnprovedLingerMs);
        var dropped = new byte[StreamRelay.MaxUnprovedBytes];
        while (await socket.ReceiveAsync(dropped, limit.Token).ConfigureAwait(false) > 0) continue;
    }
}

using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;

namespace Switchyard.Rendezvous.Network;

/// <summary>
/// Carries the packets of a control connection over a TCP or TLS stream: who holds <see cref="Near"/> need not know that its peer is on
/// another machine. When either side ends, so does the other, after what was sent before it.
/// </summary>
/// <remarks>
/// The receiver grants the sender what it may send, less than its kernel buffers. So the TCP window never closes while a process is
/// stopped, which TCP_USER_TIMEOUT would take for a dead machine.
/// </remarks>
internal sealed class StreamRelay : IDisposable
{
    public const int PrefixBytes = 4;

    /// <summary>What may be on its way without a credit for it.</summary>
    public const int WindowBytes = 128 << 10;

    /// <summary>The longest packet of a peer that has not proved itself; more than any frame of the handshake.</summary>
    public const int MaxUnprovedBytes = 1 << 10;

    /// <summary>Set in a prefix that is a credit instead of a length.</summary>
    public const uint CreditBit = 0x8000_0000;

    /// <summary>How long a refusal may take to be read.</summary>
    public const int UnprovedLingerMs = 200;

    private const int CreditAtBytes = 32 << 10; // the window less this still holds the longest packet
    private const int LingerMs = 2000;
    private const int FlushMs = 500;

    private static readonly ConcurrentDictionary<StreamRelay, Task> _running = InstallFlush();
    private readonly Socket _tcp;
    private readonly Socket _far;
    private readonly Task<Stream> _opening;
    private readonly CancellationTokenSource _ending = new();
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly TaskCompletionSource _sent = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private TaskCompletionSource? _moreCredit;
    private int _credit = WindowBytes;
    private volatile int _maxBytes = MaxUnprovedBytes;
    private volatile string? _fault;

    private StreamRelay(Socket tcp, Func<CancellationToken, Task<Stream>> open)
    {
        _tcp = tcp;
        (Near, PacketSocket far) = PacketSocket.CreatePair();
        _far = far.IntoSocket();
        _running[this] = _sent.Task;
        _opening = OpenAsync(open);
        _ = RunAsync();
    }

    /// <summary>The end to talk to; the caller's. The relay ends when it is disposed.</summary>
    public PacketSocket Near { get; }

    /// <summary>What went wrong on the way, if that is how the connection ended.</summary>
    public string? Fault => _fault;

    /// <summary>Takes over a connected socket.</summary>
    /// <param name="tcp">The connection.</param>
    /// <param name="open">Makes the stream over it; its failure ends the relay.</param>
    public static StreamRelay Start(Socket tcp, Func<CancellationToken, Task<Stream>> open) => new(tcp, open);

    /// <summary>The peer has proved itself: packets may have their full length from now on.</summary>
    public void Trust() => _maxBytes = LinkFrame.MaxBytes;

    public void Dispose() => Near.Dispose();

    private async Task RunAsync()
    {
        await Task.WhenAll(SendAllAsync(), ReceiveAllAsync()).ConfigureAwait(false);
        if (_opening.IsCompletedSuccessfully) await (await _opening.ConfigureAwait(false)).DisposeAsync().ConfigureAwait(false);
        _tcp.Dispose();
        _ending.Dispose();
        _writing.Dispose();
        _running.TryRemove(this, out _);
    }

    private async Task<Stream> OpenAsync(Func<CancellationToken, Task<Stream>> open)
    {
        try
        {
            return await open(_ending.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (!IsEnd(e))
        {
            throw new IOException(e.Message, e); // whatever a stranger's bytes may cause, it ends this connection and no more
        }
    }

    private async Task SendAllAsync()
    {
        byte[] frame = ArrayPool<byte>.Shared.Rent(PrefixBytes + LinkFrame.MaxBytes);
        bool hasSent = false;
        try
        {
            int length;
            while ((length = await TakePacketAsync(frame.AsMemory(PrefixBytes)).ConfigureAwait(false)) > 0)
            {
                await TakeCreditAsync(length).ConfigureAwait(false);
                BinaryPrimitives.WriteInt32LittleEndian(frame, length);
                await WriteAsync(frame.AsMemory(0, PrefixBytes + length)).ConfigureAwait(false);
                hasSent = true;
            }
            await EndSendingAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (IsEnd(e))
        {
            Note(e);
        }
        ArrayPool<byte>.Shared.Return(frame);
        _sent.SetResult();
        // The rest is read and dropped: closing with bytes unread would reset the connection, and take what was sent last with it.
        _ending.CancelAfter(hasSent ? (_maxBytes == MaxUnprovedBytes ? UnprovedLingerMs : LingerMs) : 0);
    }

    private async Task ReceiveAllAsync()
    {
        try
        {
            Stream stream = await _opening.ConfigureAwait(false);
            var prefix = new byte[PrefixBytes];
            byte[] packet = [];
            int uncredited = 0;
            while (await IsReadAsync(stream, prefix).ConfigureAwait(false))
            {
                uint word = BinaryPrimitives.ReadUInt32LittleEndian(prefix);
                if ((word & CreditBit) != 0)
                {
                    AddCredit(word & ~CreditBit);
                    continue;
                }
                int length = RequireLength(word);
                if (packet.Length < length) packet = new byte[_maxBytes];
                await stream.ReadExactlyAsync(packet.AsMemory(0, length), _ending.Token).ConfigureAwait(false);
                await DeliverAsync(packet.AsMemory(0, length)).ConfigureAwait(false);
                uncredited = await CreditAsync(uncredited + length).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (IsEnd(e))
        {
            Note(e);
        }
        _far.Dispose();
        await _ending.CancelAsync().ConfigureAwait(false);
    }

    private int RequireLength(uint word)
    {
        int limit = _maxBytes;
        if (word == 0 || word > limit) throw new InvalidDataException($"it announced a packet of {word} bytes; 1 to {limit} are allowed");
        return (int)word;
    }

    /// <summary>The next packet that <see cref="Near"/> sent; 0 where it is closed.</summary>
    private async Task<int> TakePacketAsync(Memory<byte> buffer)
    {
        while (true)
        {
            try
            {
                return await _far.ReceiveAsync(buffer, SocketFlags.None).ConfigureAwait(false);
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
            {
                // Near was closed with packets unread; the kernel says so once, ahead of what near had sent.
            }
        }
    }

    private async Task DeliverAsync(ReadOnlyMemory<byte> packet)
    {
        try
        {
            await _far.SendAsync(packet, SocketFlags.None).ConfigureAwait(false);
        }
        catch (SocketException)
        {
            // Near is closed; nobody wants it any more.
        }
    }

    /// <summary>Whether the buffer could be filled; not, where the stream ended before its first byte.</summary>
    private async Task<bool> IsReadAsync(Stream stream, Memory<byte> buffer)
    {
        int first = await stream.ReadAsync(buffer, _ending.Token).ConfigureAwait(false);
        if (first == 0) return false;
        await stream.ReadExactlyAsync(buffer[first..], _ending.Token).ConfigureAwait(false);
        return true;
    }

    private async Task WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        Stream stream = await _opening.ConfigureAwait(false);
        await _writing.WaitAsync(_ending.Token).ConfigureAwait(false);
        try
        {
            await stream.WriteAsync(bytes, _ending.Token).ConfigureAwait(false);
        }
        finally
        {
            _writing.Release();
        }
    }

    private async Task EndSendingAsync()
    {
        if (!_opening.IsCompleted) await _ending.CancelAsync().ConfigureAwait(false); // near gave up before there was a stream
        Stream stream = await _opening.ConfigureAwait(false);
        await _writing.WaitAsync(_ending.Token).ConfigureAwait(false);
        if (stream is SslStream secured) await secured.ShutdownAsync().ConfigureAwait(false);
        _tcp.Shutdown(SocketShutdown.Send);
    }

    private async Task TakeCreditAsync(int bytes)
    {
        while (true)
        {
            Task more;
            lock (_gate)
            {
                if (_credit >= bytes)
                {
                    _credit -= bytes;
                    return;
                }
                _moreCredit = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                more = _moreCredit.Task;
            }
            await more.WaitAsync(_ending.Token).ConfigureAwait(false);
        }
    }

    private void AddCredit(uint bytes)
    {
        lock (_gate)
        {
            if (bytes > WindowBytes - _credit) throw new InvalidDataException($"it took {bytes} bytes; {WindowBytes - _credit} were sent");
            _credit += (int)bytes;
            _moreCredit?.TrySetResult();
        }
    }

    /// <summary>Tells the peer what was taken, once it is worth a frame; returns what is still to be told.</summary>
    private async Task<int> CreditAsync(int bytes)
    {
        if (bytes < CreditAtBytes || _sent.Task.IsCompleted) return bytes;
        var credit = new byte[PrefixBytes];
        BinaryPrimitives.WriteUInt32LittleEndian(credit, (uint)bytes | CreditBit);
        await WriteAsync(credit).ConfigureAwait(false);
        return 0;
    }

    private void Note(Exception error)
    {
        SocketError? code = (error as SocketException ?? error.InnerException as SocketException)?.SocketErrorCode;
        // Our own doing, or the other side's orderly end.
        if (error is OperationCanceledException or ObjectDisposedException || code is SocketError.OperationAborted or SocketError.Shutdown) return;
        _fault ??= code switch
        {
            SocketError.TimedOut => $"its machine answered nothing for {TcpLine.SilenceMs / 1000.0:0.#} s",
            SocketError.ConnectionReset => "its machine reset the control connection",
            _ => error.Message,
        };
    }

    private static bool IsEnd(Exception e) => e
        is IOException or SocketException or AuthenticationException or InvalidDataException
        or InvalidOperationException or OperationCanceledException; // the last but one: of a stream or socket that is disposed

    /// <summary>Whether near is closed, so that what it sent last may still be under way.</summary>
    private bool IsLeft()
    {
        var hangUp = new PollSet();
        hangUp.Add((int)_far.SafeHandle.DangerousGetHandle(), 0);
        hangUp.Wait(0);
        return hangUp.IsReady(0);
    }

    /// <summary>A process that leaves its group and ends at once must not take its goodbyes with it.</summary>
    private static ConcurrentDictionary<StreamRelay, Task> InstallFlush()
    {
        AppDomain.CurrentDomain.ProcessExit += static (_, _) =>
            Task.WaitAll([.. _running.Where(relay => relay.Key.IsLeft()).Select(relay => relay.Value)], FlushMs);
        return [];
    }
}

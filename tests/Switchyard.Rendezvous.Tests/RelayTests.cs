using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Switchyard.Interop;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous.Tests;

/// <summary>What carries packets between machines: whole, in order, bounded, and ended on both sides alike.</summary>
public sealed class RelayTests : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);

    public RelayTests() => _listener.Start();

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose() => _listener.Dispose();

    [Fact]
    public async Task Packets_arrive_whole_and_in_order_both_ways()
    {
        (StreamRelay one, StreamRelay other) = await PairAsync();
        int[] lengths = [1, 40, 200, 1024, 1025, 40_000, LinkFrame.MaxBytes, 7, LinkFrame.MaxBytes];
        var there = Task.Run(() => SendAll(one, lengths, 1), Ct);
        var back = Task.Run(() => SendAll(other, lengths, 2), Ct);
        await Task.Run(() => ReceiveAll(other, lengths, 1), Ct);
        await Task.Run(() => ReceiveAll(one, lengths, 2), Ct);
        await Task.WhenAll(there, back);
        one.Dispose();
        other.Dispose();
    }

    /// <summary>A stopped process reads nothing. Its machine answers, so it is alive, however much waits for it.</summary>
    [Fact]
    public async Task A_side_that_does_not_read_for_long_is_alive()
    {
        (StreamRelay one, StreamRelay other) = await PairAsync();
        int[] lengths = [.. Enumerable.Repeat(LinkFrame.MaxBytes, 64)];
        var sending = Task.Run(() => SendAll(one, lengths, 3), Ct);
        await Task.Delay(3 * TcpLine.SilenceMs, Ct);
        Assert.False(sending.IsCompleted); // what nobody reads is held back
        await Task.Run(() => ReceiveAll(other, lengths, 3), Ct);
        await sending;
        Assert.Null(one.Fault);
        one.Dispose();
        other.Dispose();
    }

    [Fact]
    public async Task What_was_sent_before_the_end_arrives_though_the_sender_left_packets_unread()
    {
        (StreamRelay one, StreamRelay other) = await PairAsync();
        Assert.Equal(SendResult.Sent, other.Near.Send(new byte[10]));
        await Task.Delay(50, Ct);
        Assert.Equal(SendResult.Sent, one.Near.Send([1, 2, 3]));
        one.Dispose();
        Assert.Equal(3, Receive(other).Length);
        Assert.Empty(Receive(other));
        Assert.Null(other.Fault);
        other.Dispose();
    }

    [Theory]
    [InlineData(0u, "a packet of 0 bytes")]
    [InlineData(StreamRelay.MaxUnprovedBytes + 1u, "1 to 1024 are allowed")]
    [InlineData(0x7FFF_FFFFu, "a packet of 2147483647 bytes")]
    [InlineData(StreamRelay.CreditBit | 1u, "it took 1 bytes; 0 were sent")]
    [InlineData(uint.MaxValue, "it took 2147483647 bytes")]
    public async Task A_prefix_that_cannot_be_ends_the_relay(uint prefix, string fault)
    {
        (StreamRelay relay, Socket raw) = await RawAsync();
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, prefix);
        await raw.SendAsync(bytes, Ct);
        Assert.Empty(Receive(relay));
        Assert.Contains(fault, relay.Fault, StringComparison.Ordinal);
        Assert.Equal(0, await raw.ReceiveAsync(new byte[16], Ct));
        raw.Dispose();
        relay.Dispose();
    }

    [Fact]
    public async Task A_stream_cut_at_any_byte_delivers_whole_packets_only()
    {
        byte[] stream = [3, 0, 0, 0, 1, 2, 3, 2, 0, 0, 0, 4, 5];
        for (int cut = 0; cut <= stream.Length; cut++)
        {
            (StreamRelay relay, Socket raw) = await RawAsync();
            foreach (byte one in stream[..cut]) await raw.SendAsync(new[] { one }, Ct);
            raw.Dispose();
            if (cut >= 7) Assert.Equal([1, 2, 3], Receive(relay));
            if (cut == stream.Length) Assert.Equal([4, 5], Receive(relay));
            Assert.Empty(Receive(relay));
            relay.Dispose();
        }
    }

    [Fact]
    public async Task A_reset_is_noticed_at_once_and_named()
    {
        (StreamRelay relay, Socket raw) = await RawAsync();
        raw.LingerState = new LingerOption(true, 0);
        long began = Stopwatch.GetTimestamp();
        raw.Dispose();
        Assert.Empty(Receive(relay));
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 1);
        Assert.Contains("reset the control connection", relay.Fault, StringComparison.Ordinal);
        relay.Dispose();
    }

    [Fact]
    public async Task A_stream_that_never_opens_ends_with_its_holder()
    {
        int before = TestJob.OpenDescriptors();
        using (var client = new Socket(SocketType.Stream, ProtocolType.Tcp))
        {
            await client.ConnectAsync(_listener.LocalEndpoint, Ct);
            StreamRelay relay = StreamRelay.Start(await _listener.AcceptSocketAsync(Ct), async ct =>
            {
                await Task.Delay(Timeout.Infinite, ct);
                return Stream.Null;
            });
            relay.Dispose();
            Assert.Equal(0, await client.ReceiveAsync(new byte[1], Ct));
        }
        await BootstrapTests.DescriptorsAreBackAsync(before);
    }

    private async Task<(StreamRelay One, StreamRelay Other)> PairAsync()
    {
        (StreamRelay one, Socket raw) = await RawAsync();
        TcpLine.Tune(raw);
        StreamRelay other = StreamRelay.Start(raw, _ => Task.FromResult<Stream>(new NetworkStream(raw)));
        one.Trust();
        other.Trust();
        return (one, other);
    }

    private async Task<(StreamRelay Relay, Socket Raw)> RawAsync()
    {
        (StreamRelay relay, _) = await TcpLine.ConnectAsync((IPEndPoint)_listener.LocalEndpoint, null, Ct);
        return (relay, await _listener.AcceptSocketAsync(Ct));
    }

    private static void SendAll(StreamRelay relay, int[] lengths, byte value)
    {
        foreach (int length in lengths)
        {
            byte[] packet = Packet(length, value++);
            while (relay.Near.Send(packet) == SendResult.Full)
            {
                var room = new PollSet();
                room.Add(relay.Near.Descriptor, Libc.POLLOUT);
                room.Wait(100);
            }
        }
    }

    private static void ReceiveAll(StreamRelay relay, int[] lengths, byte value)
    {
        foreach (int length in lengths) Assert.True(Packet(length, value++).AsSpan().SequenceEqual(Receive(relay)));
    }

    private static byte[] Packet(int length, byte value)
    {
        var packet = new byte[length];
        packet.AsSpan().Fill(value);
        return packet;
    }

    /// <summary>The next packet; empty where the relay has ended.</summary>
    private static byte[] Receive(StreamRelay relay)
    {
        var buffer = new byte[LinkFrame.MaxBytes];
        Assert.True(PollSet.IsReadable(relay.Near.Descriptor, 10_000), "nothing came");
        return buffer[..relay.Near.Receive(buffer, [])];
    }
}

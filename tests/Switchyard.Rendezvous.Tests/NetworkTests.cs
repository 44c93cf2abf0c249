using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Joining at an address, from several machines: who gets in, who is turned away and how soon.</summary>
public class NetworkTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 1)]
    [InlineData(2, 2)]
    [InlineData(3, 2)]
    [InlineData(8, 3)]
    public async Task Ranks_join_at_an_address(int size, int machines)
    {
        using var job = new NetworkJob();
        ExpertGroup[] groups = await job.JoinAllAsync(size, rank => rank % machines);
        Assert.All(groups, group => Assert.Equal(Enumerable.Range(0, size).Select(rank => rank % machines), group.Peers.Select(peer => peer.Node)));
        byte[][][] gathered = await Task.WhenAll(groups.Select(group => group.AllGatherAsync(new byte[300_000 + group.Rank], Ct)));
        Assert.All(gathered, all => Assert.Equal(Enumerable.Range(0, size).Select(rank => 300_000 + rank), all.Select(each => each.Length)));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task The_public_way_takes_the_address_from_the_options()
    {
        using var job = new NetworkJob();
        ExpertGroup[] groups = await Task.WhenAll(Enumerable.Range(0, 2).Select(rank => ExpertGroup.JoinAsync(job.Options(rank, 2), Ct)));
        Assert.All(groups, group => Assert.Equal(0, group.Peers[1].Node)); // one machine, so they can share memory
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task An_address_needs_a_token_file_and_sound_values()
    {
        using var job = new NetworkJob();
        ExpertGroupOptions good = job.Options(0, 1);
        foreach ((ExpertGroupOptions bad, string fault) in new[]
        {
            (good with { TokenFile = null }, "needs TokenFile (SWITCHYARD_TOKEN_FILE)"),
            (good with { Address = "host" }, "must be HOST:PORT"),
            (good with { Address = "host:0" }, "must be HOST:PORT"),
            (good with { Address = "host:65536" }, "must be HOST:PORT"),
            (good with { Address = "::1:80" }, "must be HOST:PORT"),
            (good with { Address = "0.0.0.0:80" }, "be rank 0's alone"),
            (good with { Address = "[::]:80" }, "be rank 0's alone"),
            (job.Options(1, 2) with { IsNewcomer = true }, "exclude each other"),
            (good with { BindAddress = "host" }, "must be an IP address"),
            (good with { BindAddress = "0.0.0.0" }, "must be an IP address"),
            (good with { TlsKeyFile = "key" }, "give all three or none"),
        })
        {
            ArgumentException error = await Assert.ThrowsAsync<ArgumentException>(() => ExpertGroup.JoinAsync(bad, Ct));
            Assert.Contains(fault, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_port_that_is_taken_or_an_address_of_another_machine_is_told_at_once()
    {
        using var job = new NetworkJob();
        using (var holder = new TcpListener(job.End))
        {
            holder.Start();
            await RefusedAsync(() => job.JoinAsync(0, 2), $"The address {job.End} is taken by another process");
        }
        ExpertGroupOptions elsewhere = job.Options(0, 2) with { Address = $"192.0.2.1:{job.End.Port}" };
        await RefusedAsync(() => NetworkJob.JoinAsync(elsewhere), "is not one of this machine's: correct ExpertGroupOptions.Address");
        await RefusedAsync(() => NetworkJob.JoinAsync(job.Options(0, 1) with { BindAddress = "192.0.2.1" }), "correct ExpertGroupOptions.BindAddress");
    }

    [Fact]
    public async Task Eight_jobs_at_once_do_not_meet()
    {
        NetworkJob[] jobs = [.. Enumerable.Range(0, 8).Select(_ => new NetworkJob())];
        ExpertGroup[][] groups = await Task.WhenAll(jobs.Select(job => job.JoinAllAsync(3, rank => rank)));
        await Task.WhenAll(groups.SelectMany(each => each).Select(group => group.BarrierAsync(Ct)));
        foreach (ExpertGroup[] each in groups) TestJob.DisposeAll(each);
        foreach (NetworkJob job in jobs) job.Dispose();
    }

    [Fact]
    public async Task Who_does_not_fit_is_refused_and_the_job_goes_on()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 3);
        await job.ListeningAsync();
        await RefusedAsync(() => job.JoinAsync(1, 4), "has 3 ranks, this rank was given size 4");
        await RefusedAsync(() => NetworkJob.JoinAsync(job.Options(1, 3) with { Job = "other" }), "another job");
        string other = Path.Combine(job.Directory, "other");
        JobToken.Create(other);
        await RefusedAsync(() => NetworkJob.JoinAsync(job.Options(1, 3) with { TokenFile = other }), "holds another token");
        await RefusedAsync(() => job.JoinAsync(0, 3), "is taken by another process");

        Task<ExpertGroup> one = job.JoinAsync(1, 3, machine: 1);
        Task<ExpertGroup> again = job.JoinAsync(1, 3, machine: 1);
        Task<ExpertGroup> refused = await Task.WhenAny(one, again);
        Assert.Contains("Rank 1 of job 'job' is taken by process", (await Assert.ThrowsAsync<JoinException>(() => refused)).Message, StringComparison.Ordinal);

        ExpertGroup[] groups = await Task.WhenAll(zero, refused == one ? again : one, job.JoinAsync(2, 3, machine: 1));
        await RefusedAsync(() => job.JoinAsync(2, 3), "is complete; rank 2 is taken by process");
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task A_join_that_times_out_names_the_missing_ranks_on_all_sides()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 4, timeoutSeconds: 0.6);
        await job.ListeningAsync();
        Task<ExpertGroup> patient = job.JoinAsync(1, 4);
        Task<ExpertGroup> hasty = job.JoinAsync(3, 4, timeoutSeconds: 0.3);
        Assert.Contains("rank 2 did not come", (await Assert.ThrowsAsync<JoinException>(() => hasty)).Message, StringComparison.Ordinal);
        Assert.Contains("ranks 2, 3 did not come", (await Assert.ThrowsAsync<JoinException>(() => zero)).Message, StringComparison.Ordinal);
        Assert.Contains("ranks 2, 3 did not come", (await Assert.ThrowsAsync<JoinException>(() => patient)).Message, StringComparison.Ordinal);
        JoinException alone = await Assert.ThrowsAsync<JoinException>(() => job.JoinAsync(1, 2, timeoutSeconds: 0.2));
        Assert.Contains($"rank 0 of job 'job' could not be reached at {job.End}", alone.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_rank_that_goes_between_two_rounds_is_named_by_all()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup>[] joins = [.. Enumerable.Range(0, 2).Select(rank => job.JoinAsync(rank, 3))];
        await job.ListeningAsync();
        using (var clock = new Bootstrap.JoinClock(TimeSpan.FromSeconds(10), Ct))
        {
            JobToken key = JobToken.Derive(JobToken.Read(job.TokenPath), "switchyard star"u8, default);
            ExpertGroupOptions options = job.Options(2, 3);
            using StarClient two = await StarClient.ConnectAsync(options, NetworkAddress.Parse(options.Address!)!, key, null, clock);
            // A true card, so that the others go on to the next round.
            Member self = Member.Self;
            var hello = new Hello(JoinFrames.Version, 2, 3, self.ProcessId, 1, self.StartTime, "job", self.Host);
            await two.GatherAsync(new Bootstrap.Card(hello, Hub.TestMachine(0), new byte[16], null).ToFrame(), Ct);
        }
        foreach (Task<ExpertGroup> join in joins)
        {
            Assert.Contains($"Rank 2 of job 'job' (process {Environment.ProcessId}) went away",
                (await Assert.ThrowsAsync<JoinException>(() => join)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_rank_that_goes_before_all_are_there_frees_its_place()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 3);
        using (var cancelling = new CancellationTokenSource())
        {
            Task<ExpertGroup> leaving = NetworkJob.JoinAsync(job.Options(1, 3), 0, cancelling.Token);
            await Task.Delay(200, Ct);
            await cancelling.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => leaving);
        }
        await Task.Delay(50, Ct);
        TestJob.DisposeAll(await Task.WhenAll(zero, job.JoinAsync(1, 3), job.JoinAsync(2, 3)));
    }

    [Fact]
    public async Task A_thousand_half_open_connections_delay_nobody()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        var idle = new List<TcpClient>();
        for (int i = 0; i < 1000; i++)
        {
            idle.Add(new TcpClient());
            await idle[i].ConnectAsync(job.End, Ct);
        }
        long began = Stopwatch.GetTimestamp();
        ExpertGroup one = await job.JoinAsync(1, 2, machine: 1);
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 2);
        Assert.Equal(0, await ReadAsync(idle[0])); // the oldest had to go
        Assert.Equal(0, await ReadAsync(idle[^1])); // the youngest has its time, and no more
        foreach (TcpClient each in idle) each.Dispose();
        TestJob.DisposeAll([await zero, one]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Garbage_ends_only_its_own_connection(bool isSecured)
    {
        using var job = new NetworkJob();
        Func<ExpertGroupOptions, ExpertGroupOptions> change = isSecured ? job.NewTls("good") : options => options;
        Task<ExpertGroup> zero = NetworkJob.JoinAsync(change(job.Options(0, 2)));
        await job.ListeningAsync();
        byte[] hello = Framed(Intruder.Hello());
        byte[] huge = [.. hello];
        BinaryPrimitives.WriteUInt32LittleEndian(huge, uint.MaxValue >> 1);
        var random = new Random(4);
        List<byte[]> garbage = ["GET / HTTP/1.1\r\n\r\n"u8.ToArray(), huge, Framed([1]), Framed([.. Intruder.Hello(), 0]), Framed(new byte[200]), [.. hello, .. hello]];
        for (int i = 0; i < 100; i++)
        {
            var bytes = new byte[random.Next(1, 300)];
            random.NextBytes(bytes);
            if (isSecured && i % 2 == 0) new byte[] { 0x16, 3, 1, 0, (byte)i, 1, 0, 0 }.AsSpan(0, Math.Min(8, bytes.Length)).CopyTo(bytes);
            garbage.Add(bytes);
        }
        foreach (byte[] bytes in garbage)
        {
            using var stranger = new TcpClient();
            await stranger.ConnectAsync(job.End, Ct);
            await stranger.GetStream().WriteAsync(bytes, Ct);
            stranger.Client.Shutdown(SocketShutdown.Send);
            int answered = 0;
            for (int read; (read = await ReadAsync(stranger)) > 0;) answered += read;
            int most = StreamRelay.PrefixBytes + (isSecured ? Refusal.Bytes : JoinFrames.ChallengeBytes);
            Assert.True(answered == 0 || answered == most || (isSecured && answered < 2 * most), $"{answered} bytes for {Convert.ToHexString(bytes)}");
        }
        TestJob.DisposeAll(await Task.WhenAll(zero, NetworkJob.JoinAsync(change(job.Options(1, 2)))));
    }

    [Fact]
    public async Task A_hello_that_comes_byte_by_byte_has_its_time_and_no_more()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        using var slow = new TcpClient { NoDelay = true };
        await slow.ConnectAsync(job.End, Ct);
        long began = Stopwatch.GetTimestamp();
        try
        {
            foreach (byte one in Framed(Intruder.Hello()))
            {
                await slow.GetStream().WriteAsync(new[] { one }, Ct);
                await Task.Delay(20, Ct); // 204 bytes: about 4 s
            }
        }
        catch (IOException)
        {
            // It was cut off.
        }
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 1.5, 4);
        TestJob.DisposeAll(await Task.WhenAll(zero, job.JoinAsync(1, 2)));
    }

    [Fact]
    public async Task A_proof_for_one_door_does_not_open_another()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        // The job's token itself, as the ranks of one machine use it, is not the star's key.
        using var stranger = new TcpClient();
        await stranger.ConnectAsync(job.End, Ct);
        byte[] hello = Intruder.Hello();
        await stranger.GetStream().WriteAsync(Framed(hello), Ct);
        var challenge = new byte[StreamRelay.PrefixBytes + JoinFrames.ChallengeBytes];
        await stranger.GetStream().ReadExactlyAsync(challenge, Ct);
        Assert.Null(JobToken.Read(job.TokenPath).Answer(hello, challenge.AsSpan(StreamRelay.PrefixBytes)));
        byte[] proof = Intruder.ProofOf(hello, challenge[StreamRelay.PrefixBytes..], JobToken.Read(job.TokenPath));
        await stranger.GetStream().WriteAsync(Framed(proof), Ct);
        var refusal = new byte[StreamRelay.PrefixBytes + Refusal.Bytes];
        await stranger.GetStream().ReadExactlyAsync(refusal, Ct);
        Assert.Equal(RefusalReason.NotAuthenticated, Intruder.ReasonOf(refusal[StreamRelay.PrefixBytes..]));
        TestJob.DisposeAll(await Task.WhenAll(zero, job.JoinAsync(1, 2)));
    }

    [Fact]
    public async Task A_rank_0_without_the_token_is_found_out()
    {
        using var job = new NetworkJob();
        using var listener = new TcpListener(job.End);
        listener.Start();
        Task<ExpertGroup> one = job.JoinAsync(1, 2);
        using TcpClient accepted = await listener.AcceptTcpClientAsync(Ct);
        await accepted.GetStream().WriteAsync(Framed(JoinFrames.New(JoinFrame.Challenge, JoinFrames.ChallengeBytes)), Ct);
        JoinException error = await Assert.ThrowsAsync<JoinException>(() => one);
        Assert.Contains("holds another token", error.Message, StringComparison.Ordinal);
        var hello = new byte[StreamRelay.PrefixBytes + Hello.Bytes + 1];
        Assert.Equal(hello.Length - 1, await accepted.GetStream().ReadAtLeastAsync(hello, hello.Length, false, Ct)); // it gave no proof away
    }

    [Fact]
    public async Task Survivors_on_two_machines_go_on_over_the_connections_they_have()
    {
        using var job = new NetworkJob();
        ExpertGroup[] groups = await job.JoinAllAsync(4, rank => rank / 2, job.NewTls("good"));
        groups[0].Dispose();
        await Task.WhenAll(groups[1..].Select(group => Assert.ThrowsAsync<PeerLostException>(() => group.BarrierAsync(Ct))));
        ExpertGroup[] rebuilt = await Task.WhenAll(groups[1..].Select(group => group.RebuildAsync(ct: Ct)));
        Assert.All(rebuilt, group => Assert.Equal([0, 1, 1], group.Peers.Select(peer => peer.Node)));
        byte[][][] gathered = await Task.WhenAll(rebuilt.Select(group => group.AllGatherAsync(new byte[100_000 + group.Rank], Ct)));
        Assert.All(gathered, all => Assert.Equal([100_000, 100_001, 100_002], all.Select(each => each.Length)));
        InvalidOperationException error = await Assert.ThrowsAsync<InvalidOperationException>(() => rebuilt[0].GrowAsync(1, Ct));
        Assert.Contains("spans machines", error.Message, StringComparison.Ordinal);
        TestJob.DisposeAll(rebuilt);
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task With_certificates_of_one_authority_ranks_join_over_TLS()
    {
        using var job = new NetworkJob();
        Func<ExpertGroupOptions, ExpertGroupOptions> tls = job.NewTls("good");
        ExpertGroup[] groups = await job.JoinAllAsync(3, rank => rank, tls);
        byte[][][] gathered = await Task.WhenAll(groups.Select(group => group.AllGatherAsync(new byte[500_000 + group.Rank], Ct)));
        Assert.All(gathered, all => Assert.Equal([500_000, 500_001, 500_002], all.Select(each => each.Length)));
        await RefusedAsync(() => NetworkJob.JoinAsync(tls(job.Options(2, 3))), "is complete");
        groups[2].Dispose();
        Assert.Equal("it left the group", (await Assert.ThrowsAsync<PeerLostException>(() => groups[0].BarrierAsync(Ct))).Cause);
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Without_a_certificate_of_the_authority_nobody_joins()
    {
        using var job = new NetworkJob();
        Func<ExpertGroupOptions, ExpertGroupOptions> good = job.NewTls("good"), other = job.NewTls("other");
        Task<ExpertGroup> zero = NetworkJob.JoinAsync(good(job.Options(0, 2)));
        await job.ListeningAsync();
        await RefusedAsync(() => NetworkJob.JoinAsync(other(job.Options(1, 2))), "The TLS handshake with");
        // It trusts rank 0, but rank 0 does not trust it.
        ExpertGroupOptions mixed = other(job.Options(1, 2)) with { TlsAuthorityFile = good(job.Options(1, 2)).TlsAuthorityFile };
        await RefusedAsync(() => NetworkJob.JoinAsync(mixed), "takes only ranks with a certificate of its authority");
        await RefusedAsync(() => job.JoinAsync(1, 2), "takes only ranks with a certificate of its authority");
        // The token is still asked for inside.
        string wrong = Path.Combine(job.Directory, "wrong");
        JobToken.Create(wrong);
        await RefusedAsync(() => NetworkJob.JoinAsync(good(job.Options(1, 2)) with { TokenFile = wrong }), "holds another token");
        TestJob.DisposeAll(await Task.WhenAll(zero, NetworkJob.JoinAsync(good(job.Options(1, 2)), 1)));
    }

    [Fact]
    public async Task With_TLS_on_one_side_only_nobody_joins()
    {
        using var job = new NetworkJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        ExpertGroupOptions secured = job.NewTls("good")(job.Options(1, 2, timeoutSeconds: 0.5));
        JoinException error = await Assert.ThrowsAsync<JoinException>(() => NetworkJob.JoinAsync(secured));
        Assert.Contains("all or none with TLS", error.Message, StringComparison.Ordinal);
        TestJob.DisposeAll(await Task.WhenAll(zero, job.JoinAsync(1, 2)));
    }

    [Fact]
    public async Task Files_that_cannot_serve_for_TLS_are_named()
    {
        using var job = new NetworkJob();
        ExpertGroupOptions good = job.NewTls("good")(job.Options(0, 1)), other = job.NewTls("other")(job.Options(0, 1));
        await RefusedAsync(() => NetworkJob.JoinAsync(good with { TlsKeyFile = other.TlsKeyFile }), "cannot be used");
        await RefusedAsync(() => NetworkJob.JoinAsync(good with { TlsAuthorityFile = job.TokenPath }), "holds no certificate");
        await RefusedAsync(() => NetworkJob.JoinAsync(good with { TlsCertificateFile = "/nowhere" }), "/nowhere");
        File.SetUnixFileMode(good.TlsKeyFile!, (UnixFileMode)0x1A4); // 0644
        await RefusedAsync(() => NetworkJob.JoinAsync(good), "can be read by others");
    }

    [Fact]
    public async Task A_cancelled_join_leaves_nothing()
    {
        using var job = new NetworkJob();
        await CancelAsync(job);
        await Task.Delay(100, Ct);
        int before = TestJob.OpenDescriptors();
        await CancelAsync(job);
        await BootstrapTests.DescriptorsAreBackAsync(before);

        static async Task CancelAsync(NetworkJob job)
        {
            using var cancelling = new CancellationTokenSource();
            Task<ExpertGroup>[] joins = [.. Enumerable.Range(0, 2).Select(rank => NetworkJob.JoinAsync(job.Options(rank, 3), rank, cancelling.Token))];
            await Task.Delay(300, Ct);
            await cancelling.CancelAsync();
            foreach (Task<ExpertGroup> join in joins)
            {
                Exception error = await Assert.ThrowsAnyAsync<Exception>(() => join);
                Assert.True(error is OperationCanceledException or JoinException, error.ToString());
            }
        }
    }

    [Fact]
    public async Task Descriptors_stay_flat_and_the_address_can_be_used_again()
    {
        using var job = new NetworkJob();
        TestJob.DisposeAll(await job.JoinAllAsync(3, rank => rank / 2));
        await Task.Delay(100, Ct);
        int before = TestJob.OpenDescriptors();
        for (int i = 0; i < 15; i++)
        {
            ExpertGroup[] groups = await job.JoinAllAsync(3, rank => rank / 2);
            await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
            TestJob.DisposeAll(groups);
        }
        await BootstrapTests.DescriptorsAreBackAsync(before);
    }

    private static byte[] Framed(byte[] packet)
    {
        var framed = new byte[StreamRelay.PrefixBytes + packet.Length];
        BinaryPrimitives.WriteInt32LittleEndian(framed, packet.Length);
        packet.CopyTo(framed, StreamRelay.PrefixBytes);
        return framed;
    }

    /// <summary>How many bytes came; 0 where the other side closed or reset.</summary>
    private static async Task<int> ReadAsync(TcpClient client)
    {
        try
        {
            return await client.Client.ReceiveAsync(new byte[256], Ct).AsTask().WaitAsync(TimeSpan.FromSeconds(5), Ct);
        }
        catch (SocketException)
        {
            return 0;
        }
    }

    private static async Task RefusedAsync(Func<Task<ExpertGroup>> join, string reason)
    {
        long began = Stopwatch.GetTimestamp();
        JoinException error = await Assert.ThrowsAsync<JoinException>(join);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 1);
    }
}

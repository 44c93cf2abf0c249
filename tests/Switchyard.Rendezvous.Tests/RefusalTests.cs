using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;
using Switchyard.Conformance;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Whoever does not belong is turned away with a reason, and the job neither notices nor waits.</summary>
public class RefusalTests
{
    private const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_wrong_size_is_refused_and_the_job_goes_on()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        await RefusedAsync(() => job.JoinAsync(1, 3), "has 2 ranks");
        await RefusedAsync(() => job.JoinAsync(2, 3), "has 2 ranks");
        await FinishAsync(job, zero);
    }

    [Fact]
    public async Task A_taken_rank_is_refused_before_and_after_the_group_is_complete()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 3);
        await job.ListeningAsync();
        // Which of the two comes first is open; exactly one is refused.
        Task<ExpertGroup> one = job.JoinAsync(1, 3);
        Task<ExpertGroup> again = job.JoinAsync(1, 3);
        Task<ExpertGroup> refused = await Task.WhenAny(one, again);
        JoinException error = await Assert.ThrowsAsync<JoinException>(() => refused);
        Assert.Contains($"Rank 1 of job 'job' is taken by process {Environment.ProcessId}", error.Message, StringComparison.Ordinal);

        ExpertGroup[] groups = await Task.WhenAll(zero, refused == one ? again : one, job.JoinAsync(2, 3));
        await RefusedAsync(() => job.JoinAsync(2, 3), "is complete; rank 2 is taken by process");
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task A_live_job_is_not_replaced()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(2);
        await RefusedAsync(() => job.JoinAsync(0, 2), "already running");
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task What_a_dead_rank_0_left_behind_is_replaced()
    {
        using var job = new TestJob();
        PacketSocket.Listen(job.SocketPath, 1).Dispose();
        await File.WriteAllTextAsync(job.TokenPath, new string('a', 64), Ct);
        await File.WriteAllTextAsync(Path.Combine(job.Directory, "job.lock"), "", Ct);
        Task<ExpertGroup> one = job.JoinAsync(1, 2); // finds the stale files first
        await Task.Delay(50, Ct);
        TestJob.DisposeAll(await Task.WhenAll(job.JoinAsync(0, 2), one));
        Assert.Empty(job.Files());
    }

    [Fact]
    public async Task Another_token_is_refused()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        string other = Path.Combine(job.Directory, "other");
        JobToken.Create(other);
        await RefusedAsync(() => ExpertGroup.JoinAsync(job.Options(1, 2) with { TokenFile = other }, Ct), "holds another token");

        using Intruder intruder = Intruder.Connect(job);
        Assert.Equal(RefusalReason.NotAuthenticated, Intruder.ReasonOf(intruder.Prove(Intruder.Hello(), JobToken.Read(other))));
        await FinishAsync(job, zero);
    }

    [Theory]
    [InlineData(null, Private, "cannot be opened")]
    [InlineData("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", Private | UnixFileMode.GroupRead, "can be read by others")]
    [InlineData("00112233445566778899aabbccddeeff00112233445566778899aabbccddee", Private, "does not hold a token")]
    [InlineData("00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg", Private, "does not hold a token")]
    public async Task A_token_file_must_be_sound(string? text, UnixFileMode mode, string fault)
    {
        using var job = new TestJob();
        string path = Path.Combine(job.Directory, "given");
        if (text is not null)
        {
            await File.WriteAllTextAsync(path, text, Ct);
            File.SetUnixFileMode(path, mode);
        }
        await RefusedAsync(() => ExpertGroup.JoinAsync(job.Options(0, 1) with { TokenFile = path }, Ct), fault);
    }

    [Fact]
    public async Task A_given_token_file_serves_and_stays()
    {
        using var job = new TestJob();
        string path = Path.Combine(job.Directory, "given");
        JobToken.Create(path);
        Assert.Equal(Private, File.GetUnixFileMode(path));
        ExpertGroup[] groups = await Task.WhenAll(Enumerable.Range(0, 2)
            .Select(rank => ExpertGroup.JoinAsync(job.Options(rank, 2) with { TokenFile = path }, Ct)));
        TestJob.DisposeAll(groups);
        Assert.Equal([path], job.Files());
    }

    [Theory]
    [InlineData(1, 2, 2, 1L, "job", RefusalReason.WrongVersion)]
    [InlineData(1, 2, 1, 2L, "job", RefusalReason.WrongGeneration)]
    [InlineData(9, 2, 1, 1L, "job", RefusalReason.RankOutOfRange)]
    [InlineData(0, 2, 1, 1L, "job", RefusalReason.RankTaken)]
    [InlineData(1, 2, 1, 1L, "bob", RefusalReason.WrongJob)]
    public async Task Claims_are_judged_after_the_proof(int rank, int size, int version, long generation, string name, object reason)
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        byte[] hello = Intruder.Hello(rank, size, version, generation, name);
        using Intruder holder = Intruder.Connect(job);
        Assert.Equal((RefusalReason)reason, Intruder.ReasonOf(holder.Prove(hello, JobToken.Read(job.TokenPath))));
        // Without the token, the same claim learns nothing.
        using Intruder stranger = Intruder.Connect(job);
        stranger.Send(hello);
        stranger.Receive();
        stranger.Send(JoinFrames.New(JoinFrame.Proof, JoinFrames.ProofBytes));
        Assert.Equal(RefusalReason.NotAuthenticated, Intruder.ReasonOf(stranger.Receive()));
        await FinishAsync(job, zero);
    }

    [Fact]
    public async Task Replayed_and_reflected_proofs_are_refused()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 3);
        await job.ListeningAsync();
        byte[] hello = Intruder.Hello(rank: 1, size: 3);
        byte[] proof;
        using (Intruder genuine = Intruder.Connect(job))
        {
            genuine.Send(hello);
            proof = Intruder.ProofOf(hello, genuine.Receive()!, JobToken.Read(job.TokenPath));
            genuine.Send(proof);
            Assert.True(JoinFrames.Is(genuine.Receive(), JoinFrame.Present, JoinFrames.PresentBytes));
        }
        using Intruder replaying = Intruder.Connect(job);
        replaying.Send(hello);
        byte[] challenge = replaying.Receive()!;
        replaying.Send(proof);
        Assert.Equal(RefusalReason.NotAuthenticated, Intruder.ReasonOf(replaying.Receive()));

        using Intruder reflecting = Intruder.Connect(job);
        reflecting.Send(hello);
        challenge = reflecting.Receive()!;
        byte[] reflected = JoinFrames.New(JoinFrame.Proof, JoinFrames.ProofBytes);
        challenge.AsSpan(JoinFrames.ChallengeSignedBytes).CopyTo(reflected.AsSpan(JoinFrames.HeaderBytes));
        reflecting.Send(reflected);
        Assert.Equal(RefusalReason.NotAuthenticated, Intruder.ReasonOf(reflecting.Receive()));

        ExpertGroup[] groups = await Task.WhenAll(zero, job.JoinAsync(1, 3), job.JoinAsync(2, 3));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task A_rank_0_without_the_token_is_found_out()
    {
        using var job = new TestJob();
        JobToken.Create(job.TokenPath);
        using PacketSocket listener = PacketSocket.Listen(job.SocketPath, 1);
        Task<ExpertGroup> one = job.JoinAsync(1, 2);
        Assert.True(PollSet.IsReadable(listener.Descriptor, 3000));
        using PacketSocket accepted = listener.TryAccept()!;
        Assert.True(PollSet.IsReadable(accepted.Descriptor, 3000));
        accepted.Send(JoinFrames.New(JoinFrame.Challenge, JoinFrames.ChallengeBytes));
        JoinException error = await Assert.ThrowsAsync<JoinException>(() => one);
        Assert.Contains("holds another token", error.Message, StringComparison.Ordinal);
        var buffer = new byte[JoinFrames.MaxBytes];
        Assert.Equal(Hello.Bytes, accepted.Receive(buffer, []));
        Assert.Equal(0, accepted.Receive(buffer, [])); // it gave no proof away
    }

    [Fact]
    public async Task Garbage_ends_only_its_own_connection()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        var random = new Random(3);
        byte[] whole = Intruder.Hello();
        byte[] huge = Intruder.Hello();
        BinaryPrimitives.WriteUInt32LittleEndian(huge.AsSpan(8), uint.MaxValue);
        List<byte[]> garbage = [[0], new byte[JoinFrames.MaxBytes + 1], new byte[100_000], [.. whole, 0]];
        for (int i = 0; i < 100; i++)
        {
            var bytes = new byte[random.Next(1, 300)];
            random.NextBytes(bytes);
            garbage.Add(bytes);
        }
        for (int cut = 1; cut < whole.Length; cut++) garbage.Add(whole[..cut]);
        foreach (byte[] bytes in garbage)
        {
            using Intruder intruder = Intruder.Connect(job);
            intruder.Send(bytes);
            Assert.Empty(intruder.Receive()!);
        }
        using (Intruder byByte = Intruder.Connect(job))
        {
            foreach (byte one in whole) byByte.Send([one]);
            Assert.Empty(byByte.Receive()!);
        }
        using (Intruder claimant = Intruder.Connect(job))
            Assert.Equal(RefusalReason.WrongSize, Intruder.ReasonOf(claimant.Prove(huge, JobToken.Read(job.TokenPath))));
        await FinishAsync(job, zero);
    }

    [Fact]
    [Trait(Soak.Trait, "joining")]
    public async Task A_thousand_half_open_connections_delay_nobody()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2);
        await job.ListeningAsync();
        long before = GC.GetTotalMemory(forceFullCollection: true);
        Intruder[] idle = [.. Enumerable.Range(0, 1000).Select(_ => Intruder.Connect(job))];
        // Half of them begin, and never prove anything.
        for (int i = 0; i < idle.Length; i += 2) idle[i].Send(Intruder.Hello());
        long began = Stopwatch.GetTimestamp();
        ExpertGroup one = await job.JoinAsync(1, 2);
        TimeSpan took = Stopwatch.GetElapsedTime(began);
        Assert.InRange(took.TotalSeconds, 0, 2);
        Assert.InRange(GC.GetTotalMemory(forceFullCollection: true) - before, long.MinValue, 16 << 20);
        Soak.Report("a genuine join among 1,000 half-open connections", $"{took.TotalMilliseconds:0.0} ms");
        // The oldest had to go; what it was sent before is still there.
        Assert.Contains(new[] { idle[0].Receive(0)!, idle[0].Receive(0)! }, frame => frame.Length == 0);
        Assert.Empty(idle[^1].Receive(4000)!); // the youngest has its time, and no more
        foreach (Intruder each in idle) each.Dispose();
        TestJob.DisposeAll([await zero, one]);
    }

    [Fact]
    public async Task A_join_that_times_out_names_the_missing_ranks_on_all_sides()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 4, timeoutSeconds: 0.4);
        Task<ExpertGroup> patient = job.JoinAsync(1, 4);
        Task<ExpertGroup> hasty = job.JoinAsync(3, 4, timeoutSeconds: 0.2);
        Assert.Contains("rank 2 did not come", (await Assert.ThrowsAsync<JoinException>(() => hasty)).Message, StringComparison.Ordinal);
        Assert.Contains("ranks 2, 3 did not come", (await Assert.ThrowsAsync<JoinException>(() => zero)).Message, StringComparison.Ordinal);
        Assert.Contains("ranks 2, 3 did not come", (await Assert.ThrowsAsync<JoinException>(() => patient)).Message, StringComparison.Ordinal);
        Assert.Empty(job.Files());
        await RefusedAsync(() => job.JoinAsync(1, 2, timeoutSeconds: 0.1), "rank 0 did not answer");
    }

    [Fact]
    public async Task A_cancelled_join_leaves_nothing()
    {
        using var job = new TestJob();
        using var cancelling = new CancellationTokenSource();
        Task<ExpertGroup>[] joins = [.. Enumerable.Range(0, 2).Select(rank => ExpertGroup.JoinAsync(job.Options(rank, 3), cancelling.Token))];
        await job.ListeningAsync();
        await cancelling.CancelAsync();
        foreach (Task<ExpertGroup> join in joins)
        {
            Exception error = await Assert.ThrowsAnyAsync<Exception>(() => join);
            Assert.True(error is OperationCanceledException or JoinException, error.ToString());
        }
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => joins[0]);
        Assert.Empty(job.Files());
    }

    [Fact]
    public async Task A_folder_that_others_could_prepare_is_refused()
    {
        using var job = new TestJob();
        string open = Path.Combine(job.Directory, "open");
        Directory.CreateDirectory(open);
        File.SetUnixFileMode(open, (UnixFileMode)0x1ED); // 0755
        string link = Path.Combine(job.Directory, "link");
        Directory.CreateSymbolicLink(link, job.Directory);
        string file = Path.Combine(job.Directory, "file");
        await File.WriteAllTextAsync(file, "", Ct);
        foreach ((string directory, string fault) in new[] { (open, "can be entered by others"), (link, "symbolic link"), (file, "not a folder") })
            await RefusedAsync(() => ExpertGroup.JoinAsync(job.Options(0, 1) with { Directory = directory }, Ct), fault);
        string tooLong = Path.Combine(job.Directory, new string('d', 90));
        await RefusedAsync(() => ExpertGroup.JoinAsync(job.Options(0, 1) with { Directory = tooLong }, Ct), "SWITCHYARD_DIRECTORY");
    }

    [Fact]
    public async Task A_folder_is_made_private_and_long_jobs_fit()
    {
        using var job = new TestJob();
        string made = Path.Combine(job.Directory, "made", "deep");
        ExpertGroup[] groups = await Task.WhenAll(Enumerable.Range(0, 2).Select(rank =>
            ExpertGroup.JoinAsync(job.Options(rank, 2) with { Directory = made, Job = new string('x', 64) }, Ct)));
        Assert.Equal((UnixFileMode)0x1C0, File.GetUnixFileMode(made)); // 0700
        TestJob.DisposeAll(groups);
    }

    private static async Task RefusedAsync(Func<Task<ExpertGroup>> join, string reason)
    {
        long began = Stopwatch.GetTimestamp();
        JoinException error = await Assert.ThrowsAsync<JoinException>(join);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 1);
    }

    /// <summary>The job comes together in spite of all.</summary>
    private static async Task FinishAsync(TestJob job, Task<ExpertGroup> zero)
    {
        ExpertGroup[] groups = await Task.WhenAll(zero, job.JoinAsync(1, 2));
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
        TestJob.DisposeAll(groups);
    }
}

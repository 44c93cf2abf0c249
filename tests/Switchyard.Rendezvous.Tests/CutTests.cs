using System.Buffers.Binary;
using System.Diagnostics;
using Switchyard.Conformance;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Either side of a join ends at any frame and any byte: the other side is told so soon, and keeps nothing. Jobs do not meet each other.</summary>
[Trait(Soak.Trait, "joining")]
public class CutTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_rank_that_ends_at_any_byte_of_its_join_delays_nobody()
    {
        using var job = new TestJob();
        Task<ExpertGroup> zero = job.JoinAsync(0, 2, timeoutSeconds: 300);
        await job.ListeningAsync();
        var token = JobToken.Read(job.TokenPath);
        int before = TestJob.OpenDescriptors();
        byte[] hello = Intruder.Hello(rank: 0); // may prove itself and still take no place
        foreach (int cut in Soak.Sample(0, Hello.Bytes))
            Meet(job, intruder => intruder.Send(hello[..cut]));
        foreach (int cut in Soak.Sample(0, JoinFrames.ProofBytes))
            Meet(job, intruder => SendProof(intruder, hello, token, cut));
        Meet(job, intruder => intruder.Prove(hello, token));
        Meet(job, intruder => SendProof(intruder, hello, token, JoinFrames.ProofBytes));
        ExpertGroup[] groups = await Task.WhenAll(zero, job.JoinAsync(1, 2));
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
        TestJob.DisposeAll(groups);
        Assert.InRange(TestJob.OpenDescriptors(), 0, before);
    }

    /// <summary>Rank 0 is the test's: it sends what a genuine one sends, up to a byte of a frame.</summary>
    [Fact]
    public void A_rank_0_that_ends_at_any_byte_is_told_apart_at_once()
    {
        using var job = new TestJob();
        var token = JobToken.Create(job.TokenPath);
        using PacketSocket listener = PacketSocket.Listen(job.SocketPath, 16);
        int before = TestJob.OpenDescriptors();
        int[] lengths = [JoinFrames.ChallengeBytes, JoinFrames.PresentBytes, JoinFrames.MembershipHeadBytes + (2 * JoinFrames.MemberBytes), JoinFrames.LinkBytes, JoinFrames.HeaderBytes];
        var slowest = TimeSpan.Zero;
        int joins = 0;
        for (int frame = 0; frame < lengths.Length; frame++)
        {
            // Cut to nothing, the frame does not come at all.
            foreach (int cut in Soak.Sample(0, lengths[frame], inCi: 8))
            {
                using var cancelling = new CancellationTokenSource();
                Task<ExpertGroup> joining = ExpertGroup.JoinAsync(job.Options(1, 2, timeoutSeconds: 60), cancelling.Token);
                using (PacketSocket socket = Accept(listener)) Play(socket, token, frame, cut);
                long ended = Stopwatch.GetTimestamp();
                Exception error = Outcome(joining, listener, cancelling);
                // Before it was answered, it may come again to a rank 0 that was merely busy.
                bool mayRetry = cut == 0 && frame <= 1;
                Assert.True(mayRetry ? error is OperationCanceledException : error is JoinException or ProtocolException { Peer: 0 }, $"frame {frame} cut to {cut}: {error}");
                TimeSpan took = Stopwatch.GetElapsedTime(ended);
                slowest = took > slowest ? took : slowest;
                joins++;
            }
        }
        Assert.InRange(slowest.TotalSeconds, 0, 1);
        Assert.InRange(TestJob.OpenDescriptors(), 0, before);
        Soak.Report("joins cut by rank 0", $"{joins}, told within {slowest.TotalMilliseconds:0.0} ms");
    }

    [Fact]
    public async Task Eight_jobs_meet_in_one_folder_and_a_ninth_of_a_taken_name_is_refused()
    {
        using var job = new TestJob();
        ExpertGroup[][] jobs = await Task.WhenAll(Enumerable.Range(0, 8).Select(number => Task.WhenAll(Enumerable.Range(0, 3).Select(rank =>
            ExpertGroup.JoinAsync(job.Options(rank, 3, timeoutSeconds: 60) with { Job = $"job-{number}" }, Ct)))));
        Assert.All(jobs, groups => Assert.Equal([0, 1, 2], groups.Select(group => group.Rank)));

        foreach (int rank in new[] { 0, 2 })
        {
            long began = Stopwatch.GetTimestamp();
            JoinException error = await Assert.ThrowsAsync<JoinException>(() => ExpertGroup.JoinAsync(job.Options(rank, 3) with { Job = "job-5" }, Ct));
            Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 1);
            Assert.Contains("SWITCHYARD_JOB", error.Message, StringComparison.Ordinal);
            Assert.Contains("job-5", error.Message, StringComparison.Ordinal);
        }
        byte[][][] gathered = await Task.WhenAll(jobs.SelectMany((groups, number) => groups.Select(group => group.AllGatherAsync(new[] { (byte)number }, Ct))));
        Assert.All(gathered, (all, index) => Assert.All(all, each => Assert.Equal(index / 3, each[0])));
        foreach (ExpertGroup[] groups in jobs) TestJob.DisposeAll(groups);
        Assert.Empty(job.Files());
    }

    /// <summary>A connection that does something, and goes.</summary>
    private static void Meet(TestJob job, Action<Intruder> does)
    {
        using Intruder intruder = Intruder.Connect(job);
        does(intruder);
    }

    private static void SendProof(Intruder intruder, byte[] hello, JobToken token, int cut)
    {
        intruder.Send(hello);
        intruder.Send(Intruder.ProofOf(hello, intruder.Receive()!, token).AsSpan(0, cut).ToArray());
    }

    private static PacketSocket Accept(PacketSocket listener)
    {
        Assert.True(PollSet.IsReadable(listener.Descriptor, 10_000));
        PacketSocket socket = listener.TryAccept()!;
        Assert.True(PollSet.IsReadable(socket.Descriptor, 10_000));
        return socket;
    }

    private static void Play(PacketSocket socket, JobToken token, int last, int cut)
    {
        var buffer = new byte[JoinFrames.MaxBytes];
        byte[] hello = buffer.AsSpan(0, socket.Receive(buffer, [])).ToArray();
        (PacketSocket one, PacketSocket other) = PacketSocket.CreatePair();
        byte[][] frames = [Challenge(hello, token), JoinFrames.New(JoinFrame.Present, JoinFrames.PresentBytes), Membership.ToFrame(1, [Member.Self, Member.Self]), Link(), JoinFrames.New(JoinFrame.Commit, JoinFrames.HeaderBytes)];
        for (int frame = 0; frame < last; frame++)
        {
            socket.Send(frames[frame], default, frame == 3 ? [one.Descriptor] : []);
            if (frame > 0) continue;
            // A rank that cannot send its proof comes again.
            Assert.True(PollSet.IsReadable(socket.Descriptor, 10_000));
            Assert.Equal(JoinFrames.ProofBytes, socket.Receive(buffer, []));
        }
        if (cut > 0) socket.Send(frames[last].AsSpan(0, cut), default, last == 3 ? [one.Descriptor] : []);
        one.Dispose();
        other.Dispose();
    }

    private static byte[] Challenge(byte[] hello, JobToken token)
    {
        byte[] frame = JoinFrames.New(JoinFrame.Challenge, JoinFrames.ChallengeBytes);
        token.Prove(JoinFrames.ServerRole, hello, frame.AsSpan(0, JoinFrames.ChallengeSignedBytes), frame.AsSpan(JoinFrames.ChallengeSignedBytes));
        return frame;
    }

    private static byte[] Link()
    {
        byte[] frame = JoinFrames.New(JoinFrame.Link, JoinFrames.LinkBytes);
        BinaryPrimitives.WriteInt64LittleEndian(frame.AsSpan(16), 1);
        return frame;
    }

    /// <summary>How a join ends whose rank 0 has gone; one that comes again is cancelled.</summary>
    private static Exception Outcome(Task<ExpertGroup> joining, PacketSocket listener, CancellationTokenSource cancelling)
    {
        while (!joining.IsCompleted)
        {
            if (!PollSet.IsReadable(listener.Descriptor, 1)) continue;
            cancelling.Cancel();
            listener.TryAccept()?.Dispose();
        }
        while (listener.TryAccept() is { } late) late.Dispose();
        return Record.Exception(() => joining.GetAwaiter().GetResult())!;
    }
}

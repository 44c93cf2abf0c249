using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;
using Switchyard.Rendezvous.Bootstrap;
using Switchyard.Rendezvous.Network;
using Switchyard.Transports;

namespace Switchyard.Rendezvous.Tests;

/// <summary>Joining by an all-gather that the caller brings: what it must give, and what happens when it does not.</summary>
public class BootstrapTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    public async Task Ranks_join_and_pass_arenas(int size)
    {
        ExpertGroup[] groups = await Task.WhenAll(new Hub(size).JoinAll(ct: Ct));
        Assert.All(groups, (group, rank) => Assert.Equal((rank, size), (group.Rank, group.Size)));
        Assert.All(groups, group => Assert.All(group.Peers, peer => Assert.Equal((Environment.ProcessId, 0), (peer.ProcessId, peer.Node))));
        var arena = new TestArena(4096);
        using (ArenaExport export = ArenaExport.Of(arena))
        {
            Gathered[][] gathered = await Task.WhenAll(groups.Select(
                group => group.Channel.AllGatherAsync(new[] { (byte)group.Rank }, export, Ct)));
            Assert.All(gathered, all => Assert.Equal(Enumerable.Range(0, size).Select(rank => (byte)rank), all.Select(each => each.Payload[0])));
            foreach (Gathered each in gathered.SelectMany(all => all)) each.Arena!.Dispose();
        }
        arena.Release();
        TestJob.DisposeAll(groups);
    }

    [Theory]
    [InlineData(2, 2)]
    [InlineData(5, 2)]
    [InlineData(8, 3)]
    public async Task Ranks_of_several_machines_join_and_gather_whatever_the_length(int size, int machines)
    {
        ExpertGroup[] groups = await Task.WhenAll(new Hub(size).JoinAll(rank => rank % machines, ct: Ct));
        Assert.All(groups, group => Assert.Equal(Enumerable.Range(0, size).Select(rank => rank % machines), group.Peers.Select(peer => peer.Node)));
        var random = new Random(5);
        foreach (int bytes in new[] { 0, 1, LinkFrame.MaxChunkBytes, 700_001, 12 })
        {
            byte[][] payloads = [.. Enumerable.Range(0, size).Select(rank => new byte[bytes + rank])];
            foreach (byte[] payload in payloads) random.NextBytes(payload);
            byte[][][] gathered = await Task.WhenAll(groups.Select(group => Task.Run(() => group.AllGatherAsync(payloads[group.Rank], Ct), Ct)));
            Assert.All(gathered, all => Assert.All(all, (each, rank) => Assert.True(each.AsSpan().SequenceEqual(payloads[rank]))));
        }
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task A_goodbye_crosses_machines_and_is_not_a_loss()
    {
        ExpertGroup[] groups = await Task.WhenAll(new Hub(3).JoinAll(rank => rank, ct: Ct));
        Task<byte[][]>[] last = [.. groups.Select(group => group.AllGatherAsync(new byte[] { 9 }, Ct))];
        await last[2];
        groups[2].Dispose();
        Assert.All(await Task.WhenAll(last), all => Assert.Equal(3, all.Length));
        PeerLostException error = await Assert.ThrowsAsync<PeerLostException>(() => groups[0].BarrierAsync(Ct));
        Assert.Equal((2, "it left the group"), (error.Peer.Rank, error.Cause));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Different_sizes_are_named_on_every_rank() => await AllFailAsync(
        new Hub(3).JoinAll(change: (rank, options) => rank == 1 ? options with { Size = 4 } : options, ct: Ct),
        "Rank 0 was given size 3, rank 1 size 4");

    [Fact]
    public async Task Different_jobs_are_named_on_every_rank() => await AllFailAsync(
        new Hub(3).JoinAll(change: (rank, options) => rank == 2 ? options with { Job = "other" } : options, ct: Ct),
        "Rank 0 is of job 'hub', rank 2 of job 'other'");

    [Fact]
    public async Task A_rank_given_twice_is_named_on_every_rank() => await AllFailAsync(
        new Hub(3).JoinAll(change: (rank, options) => rank == 2 ? options with { Rank = 1 } : options, ct: Ct),
        "Two processes say that they are rank 1");

    [Fact]
    public async Task Another_version_is_named_on_every_rank() => await AllFailAsync(Meddling(3, (_, round, all) =>
    {
        if (round == 0) BinaryPrimitives.WriteUInt16LittleEndian(all[1].AsSpan(4), JoinFrames.Version + 1);
        return all;
    }), $"Rank 1 speaks version {JoinFrames.Version + 1} of the protocol, this rank {JoinFrames.Version}");

    [Fact]
    public async Task An_all_gather_out_of_order_is_named_on_every_rank() => await AllFailAsync(Meddling(3, (_, round, all) =>
        round == 0 ? [all[0], all[2], all[1]] : all), "The all-gather returned rank 2's bytes in place 1");

    [Fact]
    public async Task Machines_without_an_address_are_named_on_every_rank() => await AllFailAsync(
        new Hub(3).JoinAll(rank => rank / 2, (_, options) => options with { BindAddress = null }, Ct), "set ExpertGroupOptions.BindAddress");

    [Fact]
    public async Task Different_tokens_are_named_on_every_rank()
    {
        using var job = new TestJob();
        string[] files = [.. Enumerable.Range(0, 2).Select(i => Path.Combine(job.Directory, $"token{i}"))];
        foreach (string file in files) JobToken.Create(file);
        await AllFailAsync(
            new Hub(3).JoinAll(change: (rank, options) => options with { TokenFile = files[rank / 2] }, ct: Ct), "or in their tokens");
        TestJob.DisposeAll(await Task.WhenAll(new Hub(3).JoinAll(change: (_, options) => options with { TokenFile = files[0] }, ct: Ct)));
    }

    /// <summary>Any byte of any card, changed for one rank only, is noticed by all before anybody connects.</summary>
    [Fact]
    public async Task Bytes_that_are_altered_for_one_rank_fail_all()
    {
        for (int at = 0; at < Card.Bytes; at += 7)
        {
            int place = at;
            Task<ExpertGroup>[] joins = Meddling(3, (rank, round, all) =>
            {
                if (round == 0 && rank == 1) all[2][place] ^= 4;
                return all;
            });
            foreach (Task<ExpertGroup> join in joins) await Assert.ThrowsAsync<JoinException>(() => join);
        }
    }

    /// <summary>Verdicts that are altered cannot make ranks disagree silently.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task A_verdict_that_is_altered_fails_the_rank_that_reads_it(int verdict)
    {
        Task<ExpertGroup>[] joins = Meddling(2, (rank, round, all) =>
        {
            if (round == verdict && rank == 0) all[1][20] ^= 1;
            return all;
        }, timeoutSeconds: 1);
        JoinException error = await Assert.ThrowsAsync<JoinException>(() => joins[0]);
        Assert.Contains("Ranks 0 and 1 differ", error.Message, StringComparison.Ordinal);
        if (verdict == 1) await Assert.ThrowsAsync<JoinException>(() => joins[1]);
        else await GoesAsync(await joins[1]); // it had been told that all is well, and finds its peer gone
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public async Task An_all_gather_that_throws_fails_the_join_with_its_message(int failing)
    {
        Task<ExpertGroup>[] joins = Meddling(2, (_, round, all) =>
            round == failing ? throw new InvalidOperationException("the store is gone") : all);
        await AllFailAsync(joins, "failed: the store is gone");
    }

    [Theory]
    [InlineData(0, "the ranks' cards")]
    [InlineData(1, "whether all saw the same")]
    [InlineData(2, "whether all have connected")]
    public async Task An_all_gather_that_hangs_is_abandoned_at_the_timeout(int hanging, string what)
    {
        var hub = new Hub(2) { Meddle = (_, round, all) => round == hanging ? new TaskCompletionSource<byte[][]>().Task : Task.FromResult(all) };
        await AllFailAsync(
            hub.JoinAll(change: (_, options) => options with { JoinTimeout = TimeSpan.FromSeconds(0.3) }, ct: Ct),
            $"within JoinTimeout (0.3 s): the all-gather of {what} did not return");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public async Task An_all_gather_that_returns_too_few_is_told(int failing) => await AllFailAsync(
        Meddling(3, (_, round, all) => round == failing ? all[..2] : all), "returned the bytes of 2 ranks");

    [Fact]
    public async Task An_all_gather_that_returns_nothing_or_garbage_is_told()
    {
        foreach (byte[]? garbage in new byte[]?[] { null, [], new byte[Hello.Bytes], new byte[Card.Bytes], RandomNumberGenerator.GetBytes(5000) })
            await AllFailAsync(Meddling(2, (_, round, all) => round == 0 ? [all[0], garbage!] : all), "for rank 1");
    }

    [Fact]
    public async Task A_rank_that_gives_up_in_the_middle_is_named_by_the_others()
    {
        // Rank 2 finds something wrong with what it was told; the others learn it from its verdict.
        Task<ExpertGroup>[] joins = Meddling(3, (rank, round, all) => round == 0 && rank == 2 ? [all[0], all[0], all[2]] : all);
        Assert.Contains("Two processes", (await Assert.ThrowsAsync<JoinException>(() => joins[2])).Message, StringComparison.Ordinal);
        foreach (Task<ExpertGroup> join in joins[..2])
        {
            JoinException error = await Assert.ThrowsAsync<JoinException>(() => join);
            Assert.Contains("Rank 2 could not join: Two processes", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_rank_that_never_connects_is_named_by_those_that_wait()
    {
        Task<ExpertGroup>[] joins = new Hub(3)
        {
            Meddle = async (rank, round, all) =>
            {
                if (rank == 2 && round == 1) await Task.Delay(Timeout.Infinite, Ct);
                return all;
            },
        }.JoinAll(change: (_, options) => options with { JoinTimeout = TimeSpan.FromSeconds(0.5) }, ct: Ct);
        foreach (Task<ExpertGroup> join in joins[..2])
            Assert.Contains("rank 2 did not come to connect", (await Assert.ThrowsAsync<JoinException>(() => join)).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<JoinException>(() => joins[2]);
    }

    [Fact]
    public async Task Strangers_at_a_ranks_door_learn_nothing_and_delay_nobody()
    {
        Intruder[] strangers = [];
        byte[]? answer = null;
        long began = 0;
        var hub = new Hub(3)
        {
            Meddle = async (rank, round, all) =>
            {
                if (round != 1 || rank != 1) return all;
                // Rank 0's door is open, and rank 1 has not knocked at it yet.
                Card zero = Card.Parse(_cards![0])!;
                strangers = await Task.Run(() => Enumerable.Range(0, 1000).Select(_ => Intruder.Connect(zero.DoorName)).ToArray(), Ct);
                answer = strangers[^1].Prove(Card.Parse(_cards![1])!.Hello.ToFrame(new byte[32]), JobToken.Derive(null, "guess"u8, default));
                began = Stopwatch.GetTimestamp();
                return all;
            },
        };
        ExpertGroup[] groups = await Task.WhenAll(Recording(hub, 3));
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 2);
        Assert.Equal(RefusalReason.NotAuthenticated, Intruder.ReasonOf(answer));
        Assert.Empty(strangers[0].Receive(0)!); // the oldest had to go
        foreach (Intruder stranger in strangers) stranger.Dispose();
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(Ct)));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Who_has_the_key_but_is_not_the_rank_it_says_is_not_let_in()
    {
        byte[]?[] verdicts = [];
        var hub = new Hub(3)
        {
            Meddle = async (rank, round, all) =>
            {
                if (round != 1 || rank != 1) return all;
                Card zero = Card.Parse(_cards![0])!;
                JobToken key = MeshGate.KeyOf(Roster.Parse(_cards, _cards[0], new() { Rank = 0, Size = 3 }).KeyFor(null), 0);
                Hello two = Card.Parse(_cards[2])!.Hello;
                Hello[] claims = [two with { ProcessId = 1 }, two with { StartTime = 5 }, two with { Rank = 0 }, two with { Rank = 3 }, two with { Rank = 60000 }];
                verdicts = await Task.Run(() => claims.Select(claim =>
                {
                    using Intruder intruder = Intruder.Connect(zero.DoorName);
                    return intruder.Prove(claim.ToFrame(RandomNumberGenerator.GetBytes(32)), key);
                }).ToArray(), Ct);
                return all;
            },
        };
        ExpertGroup[] groups = await Task.WhenAll(Recording(hub, 3));
        Assert.Equal(5, verdicts.Length);
        Assert.All(verdicts, verdict => Assert.Empty(verdict!));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task A_cancelled_join_leaves_nothing()
    {
        int before = 0;
        foreach (int at in new[] { 2, 0, 1, 2 })
        {
            if (before == 0 && at == 0) before = TestJob.OpenDescriptors(); // what it takes to throw is loaded by now
            using var cancelling = new CancellationTokenSource();
            var hub = new Hub(3)
            {
                Meddle = async (rank, round, all) =>
                {
                    if (round == at && rank == 2)
                    {
                        await cancelling.CancelAsync();
                        await Task.Delay(Timeout.Infinite, cancelling.Token);
                    }
                    return all;
                },
            };
            Task<ExpertGroup>[] joins = hub.JoinAll(rank => rank, ct: cancelling.Token);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => joins[2]);
            // The others may have been told already that all is well.
            foreach (Task<ExpertGroup> join in joins[..2])
            {
                if (at < 2) await Assert.ThrowsAnyAsync<OperationCanceledException>(() => join);
                else await join.ContinueWith(DisposeIfJoined, Ct, default, TaskScheduler.Default);
            }
        }
        await DescriptorsAreBackAsync(before);
    }

    [Fact]
    public async Task Descriptors_stay_flat()
    {
        TestJob.DisposeAll(await Task.WhenAll(new Hub(4).JoinAll(rank => rank / 2, ct: Ct)));
        await Task.Delay(100, Ct);
        int before = TestJob.OpenDescriptors();
        for (int i = 0; i < 20; i++)
        {
            TestJob.DisposeAll(await Task.WhenAll(new Hub(4).JoinAll(rank => rank / 2, ct: Ct)));
            foreach (Task<ExpertGroup> join in Meddling(3, (rank, round, all) => round == 2 && rank == 0 ? all[..1] : all, timeoutSeconds: 1))
                await join.ContinueWith(DisposeIfJoined, Ct, default, TaskScheduler.Default);
        }
        await DescriptorsAreBackAsync(before);
    }

    private byte[][]? _cards;

    /// <summary>Joins all, keeping the cards for what the hub does in between.</summary>
    private Task<ExpertGroup>[] Recording(Hub hub, int size) => [.. Enumerable.Range(0, size).Select(rank =>
    {
        ExpertBootstrap inner = hub.For(rank);
        var options = new ExpertGroupOptions { Rank = rank, Size = size, JoinTimeout = TimeSpan.FromSeconds(10) };
        return ExpertGroup.JoinAsync(options, async (mine, ct) =>
        {
            byte[][] all = await inner(mine, ct);
            Interlocked.CompareExchange(ref _cards, all, null);
            return all;
        }, Ct);
    })];

    private static Task<ExpertGroup>[] Meddling(int size, Func<int, int, byte[][], byte[][]> meddle, double timeoutSeconds = 10) =>
        new Hub(size) { Meddle = (rank, round, all) => Task.FromResult(meddle(rank, round, all)) }.JoinAll(
            change: (_, options) => options with { JoinTimeout = TimeSpan.FromSeconds(timeoutSeconds) }, ct: Ct);

    private static async Task AllFailAsync(Task<ExpertGroup>[] joins, string reason)
    {
        long began = Stopwatch.GetTimestamp();
        foreach (Task<ExpertGroup> join in joins)
            Assert.Contains(reason, (await Assert.ThrowsAsync<JoinException>(() => join)).Message, StringComparison.Ordinal);
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 2);
    }

    private static void DisposeIfJoined(Task<ExpertGroup> join)
    {
        if (join.IsCompletedSuccessfully) join.Result.Dispose();
    }

    private static async Task GoesAsync(ExpertGroup group)
    {
        await Assert.ThrowsAsync<PeerLostException>(() => group.BarrierAsync(Ct));
        group.Dispose();
    }

    internal static async Task DescriptorsAreBackAsync(int before)
    {
        // What carries a connection between machines ends a moment after it.
        for (int i = 0; i < 100 && TestJob.OpenDescriptors() > before; i++) await Task.Delay(50, Ct);
        Assert.InRange(TestJob.OpenDescriptors(), 0, before);
    }
}

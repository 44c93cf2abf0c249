using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using Switchyard.Transports;

namespace Switchyard.Rendezvous.Tests;

public class GroupTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(8)]
    [InlineData(64)]
    public async Task Ranks_join_and_gather_in_rank_order(int size)
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(size);
        Assert.All(groups, (group, rank) => Assert.Equal((rank, size), (group.Rank, group.Size)));
        Assert.All(groups, group => Assert.Equal(Enumerable.Range(0, size), group.Peers.Select(peer => peer.Rank)));
        Assert.All(groups, group => Assert.All(group.Peers, peer => Assert.Equal(Environment.ProcessId, peer.ProcessId)));

        byte[][][] gathered = await Task.WhenAll(groups.Select(group => group.AllGatherAsync(new byte[] { (byte)group.Rank, 7 }, Ct)));
        Assert.All(gathered, all => Assert.Equal(Enumerable.Range(0, size).Select(rank => new byte[] { (byte)rank, 7 }), all));
        TestJob.DisposeAll(groups);
        Assert.Empty(job.Files());
    }

    [Fact]
    public async Task Large_payloads_of_differing_lengths_arrive_whole_when_all_send_at_once()
    {
        const int Size = 4;
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(Size);
        var random = new Random(1);
        int[] edges = [0, 1, LinkFrame.MaxChunkBytes, LinkFrame.MaxChunkBytes + 1, 9_000_001, 3_333_333, 2 * LinkFrame.MaxChunkBytes, 5];
        for (int round = 0; round < 6; round++)
        {
            byte[][] payloads = [.. Enumerable.Range(0, Size).Select(rank => new byte[edges[(round + (3 * rank)) % edges.Length]])];
            foreach (byte[] payload in payloads) random.NextBytes(payload);
            byte[][][] gathered = await Task.WhenAll(
                groups.Select(group => Task.Run(() => group.AllGatherAsync(payloads[group.Rank], Ct), Ct)));
            foreach (byte[][] all in gathered)
            {
                for (int rank = 0; rank < Size; rank++)
                    Assert.True(payloads[rank].AsSpan().SequenceEqual(all[rank]), $"round {round}, rank {rank}");
            }
        }
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Ranks_may_run_ahead_by_one_call()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(3);
        var random = new Random(2);
        await Task.WhenAll(groups.Select(async group =>
        {
            for (byte i = 0; i < 200; i++)
            {
                byte[][] all = await group.AllGatherAsync(new[] { i }, Ct);
                Assert.All(all, each => Assert.Equal(i, Assert.Single(each)));
                if (i % 50 == group.Rank) await Task.Delay(2, Ct);
            }
        }));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Arenas_are_passed_as_descriptors_of_the_same_memory()
    {
        const int Size = 3;
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(Size);
        var arenas = new TestArena[Size];
        for (int rank = 0; rank < Size; rank++)
        {
            arenas[rank] = new TestArena(4096 * (rank + 1));
            RandomAccess.Write(arenas[rank].Descriptor, new[] { (byte)(100 + rank) }, 0);
        }
        ArenaExport[] exports = [.. arenas.Select(ArenaExport.Of)];
        Gathered[][] gathered = await Task.WhenAll(groups.Select(group =>
            group.Channel.AllGatherAsync(new byte[] { 1 }, group.Rank == 1 ? null : exports[group.Rank], Ct)));
        for (int rank = 0; rank < Size; rank++)
        {
            Assert.Null(gathered[rank][1].Arena);
            foreach (int source in new[] { 0, 2 })
            {
                using ArenaExport arena = gathered[rank][source].Arena!;
                Assert.Equal(4096 * (source + 1), arena.Bytes);
                Assert.Equal(rank == source, arena.InProcess == arenas[source]);
                byte[] first = [0];
                RandomAccess.Read(arena.Descriptor!, first, 0);
                Assert.Equal(100 + source, first[0]);
            }
        }
        foreach (ArenaExport export in exports) export.Dispose();
        foreach (TestArena arena in arenas) arena.Release();
        Assert.All(arenas, arena => Assert.True(arena.IsUnmapped));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Memory_that_is_not_sealed_is_refused()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(2);
        var arena = new TestArena(4096, isSealed: false);
        using ArenaExport export = ArenaExport.Of(arena);
        Task sends = groups[0].Channel.AllGatherAsync(default, export, Ct);
        ProtocolException error = await Assert.ThrowsAsync<ProtocolException>(() => groups[1].BarrierAsync(Ct));
        Assert.Equal(0, error.Peer);
        Assert.Contains("not sealed", error.Message, StringComparison.Ordinal);
        TestJob.DisposeAll(groups);
        await sends.ContinueWith(_ => { }, Ct, TaskContinuationOptions.None, TaskScheduler.Default);
        arena.Release();
    }

    [Fact]
    public async Task A_goodbye_is_not_a_loss_and_does_not_undo_what_was_given()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(3);
        Task<byte[][]>[] last = [.. groups.Select(group => group.AllGatherAsync(new byte[] { 9 }, Ct))];
        await last[2];
        groups[2].Dispose();
        Assert.All(await Task.WhenAll(last), all => Assert.Equal(3, all.Length));

        PeerLostException error = await Assert.ThrowsAsync<PeerLostException>(() => groups[0].BarrierAsync(Ct));
        Assert.Equal((2, "it left the group"), (error.Peer.Rank, error.Cause));
        Assert.Equal(PeerState.Left, groups[0].Channel.StateOf(2));
        Assert.Equal(PeerState.Alive, groups[0].Channel.StateOf(1));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Watchers_are_told_once_even_if_they_come_late()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(2);
        var early = new Watcher();
        groups[0].Channel.AddWatcher(early);
        groups[1].Dispose();
        await early.Told.Task.WaitAsync(TimeSpan.FromSeconds(5), Ct);
        var late = new Watcher();
        groups[0].Channel.AddWatcher(late);
        await Task.Delay(20, Ct);
        Assert.Equal([(1, PeerState.Left)], early.Seen);
        Assert.Equal([(1, PeerState.Left)], late.Seen);
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task A_watcher_may_dispose_of_the_group()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(2);
        Task waiting = groups[0].BarrierAsync(Ct);
        groups[0].Channel.AddWatcher(new Watcher { Then = groups[0].Dispose });
        groups[1].Dispose();
        await Assert.ThrowsAnyAsync<Exception>(() => waiting.WaitAsync(TimeSpan.FromSeconds(5), Ct));
        Assert.False(waiting.IsCanceled);
    }

    [Fact]
    public async Task Misuse_is_told_apart()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(2);
        Task waiting = groups[0].BarrierAsync(Ct);
        await Assert.ThrowsAsync<InvalidOperationException>(() => groups[0].BarrierAsync(Ct));
        groups[0].Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => waiting);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => groups[0].BarrierAsync(Ct));

        using var cancelling = new CancellationTokenSource();
        using var otherJob = new TestJob();
        ExpertGroup[] others = await otherJob.JoinAllAsync(2);
        Task cancelled = others[0].BarrierAsync(cancelling.Token);
        await cancelling.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        await Assert.ThrowsAsync<InvalidOperationException>(() => others[0].BarrierAsync(Ct));
        TestJob.DisposeAll(groups);
        TestJob.DisposeAll(others);
    }

    [Fact]
    public async Task Descriptors_stay_flat()
    {
        using var job = new TestJob();
        TestJob.DisposeAll(await job.JoinAllAsync(3));
        int before = TestJob.OpenDescriptors();
        var arena = new TestArena(4096);
        for (int i = 0; i < 50; i++)
        {
            ExpertGroup[] groups = await job.JoinAllAsync(3);
            using ArenaExport export = ArenaExport.Of(arena);
            Gathered[][] all = await Task.WhenAll(groups.Select(group => group.Channel.AllGatherAsync(default, export, Ct)));
            foreach (Gathered each in all.SelectMany(each => each)) each.Arena!.Dispose();
            // Contributions that nobody takes must not leak either.
            Task ignored = groups[0].Channel.AllGatherAsync(default, export, Ct);
            TestJob.DisposeAll(groups);
            await ignored.ContinueWith(_ => { }, Ct, TaskContinuationOptions.None, TaskScheduler.Default);
        }
        arena.Release();
        Assert.InRange(TestJob.OpenDescriptors(collect: false), 0, before);
        Assert.Empty(job.Files());
    }

    private sealed class Watcher : IPeerWatcher
    {
        public List<(int Rank, PeerState State)> Seen { get; } = [];

        public TaskCompletionSource Told { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Action? Then { get; init; }

        public void OnPeerGone(PeerInfo peer, PeerState state, string cause)
        {
            Seen.Add((peer.Rank, state));
            Told.TrySetResult();
            Then?.Invoke();
        }
    }
}

namespace Switchyard.Rendezvous.Tests;

/// <summary>Groups that go on without some of their ranks, or with more. Here the ranks share a process and leave on purpose; see <see cref="KillTests"/>.</summary>
public class RebuildTests
{
    public static readonly TheoryData<bool, int> Groups = new() { { true, 2 }, { true, 3 }, { true, 8 }, { false, 2 }, { false, 3 }, { false, 8 } };

    private static CancellationToken Now => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Groups))]
    public async Task Those_who_remain_go_on_in_a_group_of_their_own(bool inProcesses, int size)
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await JoinAsync(job, inProcesses, size);
        int leaver = size / 2;
        groups[leaver].Dispose();
        ExpertGroup[] before = [.. groups.Where((_, rank) => rank != leaver)];
        ExpertGroup[] after = await Task.WhenAll(before.Select(group => group.RebuildAsync(ct: Now)));
        int[] former = [.. Enumerable.Range(0, size).Where(rank => rank != leaver)];
        for (int rank = 0; rank < after.Length; rank++)
        {
            Assert.Equal((rank, size - 1, 2L), (after[rank].Rank, after[rank].Size, after[rank].Generation));
            Assert.Equal(former, after[rank].FormerRanks);
            Assert.Equal(Enumerable.Range(0, size - 1), after[rank].Peers.Select(peer => peer.Rank));
        }
        await AllGatherWorksAsync(after);
        InvalidOperationException over = await Assert.ThrowsAsync<InvalidOperationException>(() => before[0].BarrierAsync(Now));
        Assert.Contains("generation 2", over.Message, StringComparison.Ordinal);
        TestJob.DisposeAll(groups);
        await AllGatherWorksAsync(after);
        TestJob.DisposeAll(after);
        Assert.Empty(job.Files());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_group_can_be_rebuilt_down_to_one_rank(bool inProcesses)
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await JoinAsync(job, inProcesses, 5);
        for (int size = 4; size >= 1; size--)
        {
            groups[0].Dispose(); // rank 0 each time: the role passes on
            groups = await Task.WhenAll(groups.Skip(1).Select(group => group.RebuildAsync(ct: Now)));
            Assert.All(groups, group => Assert.Equal((size, 6L - size), (group.Size, group.Generation)));
            await AllGatherWorksAsync(groups);
        }
        TestJob.DisposeAll(groups);
    }

    [Theory]
    [MemberData(nameof(Groups))]
    public async Task Without_loss_all_go_on(bool inProcesses, int size)
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await JoinAsync(job, inProcesses, size);
        ExpertGroup[] after = await Task.WhenAll(groups.Select(group => group.RebuildAsync(ct: Now)));
        Assert.All(after, group => Assert.Equal((size, 2L), (group.Size, group.Generation)));
        await AllGatherWorksAsync(after);
        TestJob.DisposeAll(after);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_evicted_rank_is_told_that_it_is_fenced(bool inProcesses)
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await JoinAsync(job, inProcesses, 4);
        // Two ranks name one each: both go.
        ExpertGroup[] after = await Task.WhenAll(groups[1].RebuildAsync([0], Now), groups[2].RebuildAsync([3], Now));
        Assert.All(after, group => Assert.Equal([1, 2], group.FormerRanks));
        await AllGatherWorksAsync(after);
        foreach (int evicted in new[] { 0, 3 })
        {
            FencedException fenced = await Assert.ThrowsAsync<FencedException>(() => BarrierAsync(groups[evicted]));
            Assert.Equal((2L, Recovery.Join), (fenced.Generation, fenced.Recovery));
            await Assert.ThrowsAsync<FencedException>(() => groups[evicted].RebuildAsync(ct: Now));
        }
        TestJob.DisposeAll(groups);
        await AllGatherWorksAsync(after);
        TestJob.DisposeAll(after);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_rank_that_does_not_take_part_is_named_and_can_be_evicted_in_a_second_attempt(bool inProcesses)
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await JoinAsync(job, inProcesses, 4);
        foreach (ExpertGroup group in groups) group.Deadline = TimeSpan.FromMilliseconds(300);
        PeerTimeoutException[] late = await Task.WhenAll(groups.Where(group => group.Rank != 2).Select(async group =>
            await Assert.ThrowsAsync<PeerTimeoutException>(() => group.RebuildAsync(ct: Now))));
        Assert.All(late, error => Assert.Equal((2, CallPhase.Rebuild), (error.Peer.Rank, error.Site.Phase)));
        foreach (ExpertGroup group in groups) group.Deadline = TimeSpan.FromSeconds(20);
        ExpertGroup[] after = await Task.WhenAll(groups.Where(group => group.Rank != 2).Select(group => group.RebuildAsync([2], Now)));
        Assert.All(after, group => Assert.Equal([0, 1, 3], group.FormerRanks));
        await AllGatherWorksAsync(after);
        TestJob.DisposeAll(groups);
        TestJob.DisposeAll(after);
    }

    [Fact]
    public async Task A_cancelled_collective_call_is_mended_by_a_rebuild()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(3);
        using var cancel = new CancellationTokenSource(50);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => groups[1].AllGatherAsync(new byte[100_000], cancel.Token));
        ExpertGroup[] after = await Task.WhenAll(groups.Select(group => group.RebuildAsync(ct: Now)));
        await AllGatherWorksAsync(after);
        TestJob.DisposeAll(after);
    }

    [Fact]
    public async Task Newcomers_take_the_last_places()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await job.JoinAllAsync(3);
        groups[0].Dispose();
        groups = await Task.WhenAll(groups.Skip(1).Select(group => group.RebuildAsync(ct: Now)));
        // They come before there is a place for them.
        Task<ExpertGroup>[] newcomers = [.. new[] { 2, 3 }.Select(rank => ExpertGroup.JoinAsync(job.Options(rank, 4) with { IsNewcomer = true }, Now))];
        await Task.Delay(50, Now);
        ExpertGroup[] grown = await Task.WhenAll([.. groups.Select(group => group.GrowAsync(2, Now)), .. newcomers]);
        Assert.All(grown, group => Assert.Equal((4, 3L), (group.Size, group.Generation)));
        Assert.Equal([0, 1, -1, -1], grown[0].FormerRanks);
        Assert.Empty(grown[3].FormerRanks);
        await AllGatherWorksAsync(grown);
        await Assert.ThrowsAsync<InvalidOperationException>(() => groups[0].BarrierAsync(Now));
        TestJob.DisposeAll(groups);
        await AllGatherWorksAsync(grown);
        TestJob.DisposeAll(grown);
        Assert.Empty(job.Files());
    }

    [Fact]
    public async Task A_group_goes_on_where_newcomers_do_not_come()
    {
        using var job = new TestJob();
        ExpertGroup[] groups = await Task.WhenAll(Enumerable.Range(0, 2).Select(rank => job.JoinAsync(rank, 2, timeoutSeconds: 0.5)));
        JoinException[] errors = await Task.WhenAll(groups.Select(async group => await Assert.ThrowsAsync<JoinException>(() => group.GrowAsync(1, Now))));
        Assert.All(errors, error => Assert.Contains("rank 2 did not come", error.Message, StringComparison.Ordinal));
        await AllGatherWorksAsync(groups);
        TestJob.DisposeAll(groups);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(0)]
    [InlineData(2)]
    public async Task A_rank_evicts_only_others_of_its_group(int evicted)
    {
        ExpertGroup[] groups = ExpertGroup.CreateLocal(2);
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => groups[0].RebuildAsync([evicted], Now));
        TestJob.DisposeAll(groups);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(63)]
    public async Task A_group_grows_within_its_limits(int newcomers)
    {
        ExpertGroup[] groups = ExpertGroup.CreateLocal(2);
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => groups[0].GrowAsync(newcomers, Now));
        await Assert.ThrowsAsync<InvalidOperationException>(() => groups[0].GrowAsync(1, Now));
        TestJob.DisposeAll(groups);
    }

    [Fact]
    public async Task Rebuilding_leaks_nothing()
    {
        using var job = new TestJob();
        int before = 0;
        for (int round = 0; round < 8; round++)
        {
            if (round == 1) before = TestJob.OpenDescriptors(); // the first may have made what stays
            ExpertGroup[] groups = await job.JoinAllAsync(4);
            groups[3].Dispose();
            int[] evicted = round % 2 == 0 ? [1] : [];
            ExpertGroup[] after = await Task.WhenAll(
                groups.Take(3).Where(group => !evicted.Contains(group.Rank)).Select(group => group.RebuildAsync(group.Rank == 0 ? evicted : [], Now)));
            TestJob.DisposeAll(after);
            TestJob.DisposeAll(groups);
        }
        // The threads of groups that were rebuilt close the last of theirs after the others go on.
        for (int i = 0; i < 100 && TestJob.OpenDescriptors() > before; i++) await Task.Delay(20, Now);
        Assert.InRange(TestJob.OpenDescriptors(), 0, before);
        Assert.Empty(job.Files());
    }

    private static async Task<ExpertGroup[]> JoinAsync(TestJob job, bool inProcesses, int size) =>
        inProcesses ? await job.JoinAllAsync(size) : ExpertGroup.CreateLocal(size);

    private static async Task BarrierAsync(ExpertGroup group)
    {
        while (true) await group.BarrierAsync(Now);
    }

    private static async Task AllGatherWorksAsync(ExpertGroup[] groups)
    {
        for (int round = 0; round < 3; round++)
        {
            byte[][][] all = await Task.WhenAll(groups.Select(group => group.AllGatherAsync(new[] { (byte)group.Rank, (byte)round }, Now)));
            Assert.All(all, each => Assert.Equal(groups.Select(group => (byte)group.Rank), each.Select(bytes => bytes[0])));
            Assert.All(all, each => Assert.All(each, bytes => Assert.Equal(round, bytes[1])));
        }
    }
}

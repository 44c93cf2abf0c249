using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

public class LocalGroupTests
{
    [Fact]
    public async Task Gathers_in_rank_order_whoever_comes_first()
    {
        ExpertGroup[] ranks = ExpertGroup.CreateLocal(5);
        for (int round = 0; round < 20; round++)
        {
            byte[][][] all = await Task.WhenAll(ranks.Reverse().Select(rank => Task.Run(() => rank.AllGatherAsync(new byte[] { (byte)rank.Rank, (byte)round }.AsMemory(0, 1 + (rank.Rank % 2))))));
            Assert.All(all, each => Assert.Equal([0, 1, 2, 3, 4], each.Select(payload => (int)payload[0])));
        }
        foreach (ExpertGroup rank in ranks) rank.Dispose();
    }

    [Fact]
    public async Task Sums_in_rank_order_on_all_ranks()
    {
        ExpertGroup[] ranks = ExpertGroup.CreateLocal(4);
        float[] addends = [1e8f, 1, -1e8f, 0.5f];
        float expected = 1e8f + 1 + -1e8f + 0.5f;
        float[][] vectors = [.. addends.Select(each => new[] { each })];
        await Task.WhenAll(ranks.Select(rank => rank.AllReduceSumAsync(vectors[rank.Rank].AsMemory())));
        Assert.All(vectors, vector => Assert.Equal(expected, vector[0]));
        foreach (ExpertGroup rank in ranks) rank.Dispose();
    }

    [Fact]
    public async Task Different_lengths_are_a_mismatch_on_all_ranks()
    {
        ExpertGroup[] ranks = ExpertGroup.CreateLocal(3);
        Task[] sums = [.. ranks.Select(rank => rank.AllReduceSumAsync(new double[rank.Rank == 2 ? 2 : 1].AsMemory()))];
        foreach (Task sum in sums) await Assert.ThrowsAsync<CallMismatchException>(() => sum);
        foreach (ExpertGroup rank in ranks) rank.Dispose();
    }

    [Fact]
    public async Task A_rank_that_left_fails_the_others_gather()
    {
        ExpertGroup[] ranks = ExpertGroup.CreateLocal(3);
        Task before = ranks[0].BarrierAsync();
        ranks[2].Dispose();
        PeerLostException error = await Assert.ThrowsAsync<PeerLostException>(() => before);
        Assert.Equal(2, error.Peer.Rank);
        await Assert.ThrowsAsync<PeerLostException>(() => ranks[1].BarrierAsync());
        await Assert.ThrowsAsync<ObjectDisposedException>(() => ranks[2].BarrierAsync());
        foreach (ExpertGroup rank in ranks) rank.Dispose();
    }

    [Fact]
    public async Task What_broke_a_buffer_is_thrown_without_a_call_too()
    {
        ExpertGroup[] ranks = ExpertGroup.CreateLocal(2);
        var options = new ExpertBufferOptions { Backend = CpuBackend.Instance, Experts = 2, TopK = 1, Hidden = 4, MaxTokensPerRank = 1, Element = ElementType.Single };
        ExpertBuffer[] buffers = await Task.WhenAll(ranks.Select(rank => ExpertBuffer.CreateAsync(rank, options)));
        buffers[0].ThrowIfFailed();
        Task<PeerLostException> waiting = Task.Run(() => Assert.Throws<PeerLostException>(() => buffers[0].Dispatch(new float[4], new int[1])));
        buffers[1].Dispose();
        ranks[1].Dispose();
        Assert.Equal(1, (await waiting).Peer.Rank);
        Assert.Equal(1, Assert.Throws<PeerLostException>(buffers[0].ThrowIfFailed).Peer.Rank);
        buffers[0].Dispose();
        Assert.Throws<ObjectDisposedException>(buffers[0].ThrowIfFailed);
        ranks[0].Dispose();
    }

    /// <summary>The arena that a cancelled rank had shared must outlive it until the others are done with the round.</summary>
    [Fact]
    public async Task A_cancelled_creation_hangs_nobody()
    {
        for (int attempt = 0; attempt < 20; attempt++)
        {
            ExpertGroup[] ranks = ExpertGroup.CreateLocal(3);
            using var cancel = new CancellationTokenSource();
            var options = new ExpertBufferOptions { Backend = Cpu.CpuBackend.Instance, Experts = 4, TopK = 1, Hidden = 8, MaxTokensPerRank = 2, Element = ElementType.Single };
            Task<ExpertBuffer>[] creations = [.. ranks.Select(rank => Task.Run(() => ExpertBuffer.CreateAsync(rank, options, rank.Rank == 0 ? cancel.Token : default)))];
            cancel.CancelAfter(TimeSpan.FromMicroseconds(Random.Shared.Next(2000)));
            try
            {
                (await creations[0]).Dispose();
            }
            catch (OperationCanceledException)
            {
                // Either is right, depending on the moment.
            }
            ranks[0].Dispose();
            foreach (Task<ExpertBuffer> creation in creations[1..])
            {
                Task ended = await Task.WhenAny(creation, Task.Delay(TimeSpan.FromSeconds(20)));
                Assert.Same(creation, ended);
                if (creation.IsCompletedSuccessfully) (await creation).Dispose();
                else Assert.IsType<PeerLostException>(creation.Exception!.InnerException);
            }
            foreach (ExpertGroup rank in ranks) rank.Dispose();
        }
    }
}

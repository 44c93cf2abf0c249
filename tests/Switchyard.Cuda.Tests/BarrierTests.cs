using System.Diagnostics;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

[Trait("Suite", PressureTests.Reduced)]
public sealed class BarrierTests
{
    private const int Ranks = 8;
    private const int Blocks = 16;
    private static readonly TimeSpan _ample = TimeSpan.FromSeconds(20);

    [Fact]
    public void What_was_written_before_the_barrier_is_read_after_it()
    {
        using var gpu = new Gpu();
        using var ranks = BarrierRanks.OnOne(gpu, Ranks);
        const int RowBytes = 8192;
        const long Count = 32768; // 256 MiB: to write them lasts, so without the barrier neighbours would copy what is not written yet
        using CudaBytes values = gpu.Allocate(Ranks * Count * RowBytes), written = gpu.Allocate(Ranks * Count * RowBytes), read = gpu.Allocate(Ranks * RowBytes);
        DeviceRows Block(CudaBytes bytes, int rank, long first, long count) => new(bytes.Address + (nint)(((rank * Count) + first) * RowBytes), count, RowBytes);
        for (int turn = 1; turn <= 3; turn++)
        {
            for (int rank = 0; rank < Ranks; rank++) gpu.Stream.Fill(Block(values, rank, 0, Count).Address, (byte)((turn << 4) + rank), Count * RowBytes);
            gpu.Stream.Synchronize();
            for (int rank = 0; rank < Ranks; rank++)
            {
                long count = rank % 2 == 0 ? Count : 1;
                gpu.Kernels.CopyRows.Enqueue(ranks.Streams[rank], Block(values, rank, 0, count), Block(written, rank, 0, count));
                ranks.Enqueue(rank, Blocks, _ample);
                int next = (rank + 1) % Ranks;
                long row = next % 2 == 0 ? Count - 1 : 0;
                gpu.Kernels.CopyRows.Enqueue(ranks.Streams[rank], Block(written, next, row, 1), new DeviceRows(read.Address + (rank * RowBytes), 1, RowBytes), blocks: 1);
                ranks.Enqueue(rank, Blocks, _ample);
            }
            ranks.Synchronize();
            for (int rank = 0; rank < Ranks; rank++)
                Assert.Equal(-1, read.Read<byte>(RowBytes, rank * RowBytes).AsSpan().IndexOfAnyExcept((byte)((turn << 4) + ((rank + 1) % Ranks))));
        }
        Assert.All(ranks.Records, record => Assert.Equal(BarrierCause.None, record.Cause));
        Assert.All(ranks.Epochs, epoch => Assert.Equal(6ul, epoch));
    }

    [Fact]
    public void Thousands_in_a_row_pass()
    {
        using var gpu = new Gpu();
        using var ranks = BarrierRanks.OnOne(gpu, Ranks);
        ranks.EnqueueAll(Blocks, rounds: 5000);
        ranks.Synchronize();
        Assert.All(ranks.Records, record => Assert.Equal(BarrierCause.None, record.Cause));
        Assert.All(ranks.Epochs, epoch => Assert.Equal(5000ul, epoch));
    }

    [Fact]
    public void One_rank_alone_and_a_captured_barrier_count_on()
    {
        using var gpu = new Gpu();
        using var ranks = BarrierRanks.OnOne(gpu, 1);
        using Graph graph = Graph.Capture(ranks.Streams[0], () =>
        {
            ranks.Enqueue(0, Blocks, _ample);
            ranks.Enqueue(0, Blocks, _ample, overlap: true);
        });
        for (int turn = 0; turn < 3; turn++) graph.Launch(ranks.Streams[0]);
        ranks.Enqueue(0, 1, _ample);
        ranks.Synchronize();
        Assert.Equal([7ul], ranks.Epochs);
        Assert.Equal(7ul, ranks.Arrived(0, 0));
    }

    [Fact]
    public void A_rank_that_never_comes_ends_in_a_record_at_the_deadline_and_the_context_works_on()
    {
        using var gpu = new Gpu();
        using var ranks = BarrierRanks.OnOne(gpu, 3);
        ranks.EnqueueAll(Blocks);
        ranks.Synchronize();
        // Rank 2 does not come. Rank 0 gives up first; rank 1 would wait on, and is told.
        var clock = Stopwatch.StartNew();
        ranks.Enqueue(0, Blocks, TimeSpan.FromMilliseconds(30));
        ranks.Enqueue(1, Blocks, _ample);
        ranks.Synchronize();
        Assert.True(clock.Elapsed < _ample / 2, $"took {clock.Elapsed}");
        BarrierRecord[] records = [.. ranks.Records];
        Assert.Equal((BarrierCause.Deadline, 2ul, 2ul, 1ul), (records[0].Cause, records[0].Epoch, records[0].Rank, records[0].Seen));
        Assert.InRange(records[0].WaitedNs, 30_000_000ul, 10_000_000_000ul);
        Assert.Equal((BarrierCause.Aborted, 2ul, 0ul), (records[1].Cause, records[1].Epoch, records[1].Rank));
        Assert.Equal(BarrierCause.None, records[2].Cause);

        // What was enqueued later ends at once, and announces nothing.
        clock.Restart();
        ranks.Enqueue(0, Blocks, _ample);
        ranks.Synchronize();
        Assert.True(clock.Elapsed < _ample / 2, $"took {clock.Elapsed}");
        Assert.Equal(2ul, ranks.Arrived(1, 0));
        Assert.Equal(records[0], ranks.Records.First());

        using CudaBytes bytes = gpu.Allocate(1 << 20);
        bytes.Write<uint>([5]);
        gpu.Kernels.CopyRows.Enqueue(gpu.Stream, new DeviceRows(bytes.Address, 4, 64), new DeviceRows(bytes.Address + 4096, 4, 64));
        Assert.Equal(5u, bytes.Read<uint>(1, 4096)[0]);
        using var anew = BarrierRanks.OnOne(gpu, 3);
        anew.EnqueueAll(Blocks);
        anew.Synchronize();
        Assert.All(anew.Records, record => Assert.Equal(BarrierCause.None, record.Cause));
    }

    [Fact]
    public void The_host_can_end_a_wait()
    {
        using var gpu = new Gpu();
        using var ranks = BarrierRanks.OnOne(gpu, 5);
        var clock = Stopwatch.StartNew();
        ranks.Enqueue(3, Blocks, _ample);
        ranks.RaiseAbort(rank: 3, other: 4);
        ranks.Synchronize();
        Assert.True(clock.Elapsed < _ample / 2, $"took {clock.Elapsed}");
        BarrierRecord record = ranks.Records.ElementAt(3);
        Assert.Equal((BarrierCause.Aborted, 1ul, 4ul), (record.Cause, record.Epoch, record.Rank));
    }

    [Fact]
    public void All_blocks_of_all_ranks_fit_on_the_device()
    {
        using var gpu = new Gpu();
        Assert.True(gpu.Kernels.Barrier.BlocksPerMultiprocessor(Ranks) * gpu.Device.MultiprocessorCount >= Ranks * Blocks);
        Assert.True(gpu.Kernels.Barrier.BlocksPerMultiprocessor(Limits.MaxRanks) >= 1);
    }

    [Fact]
    public void Ranks_that_cannot_be_are_argument_errors()
    {
        using var gpu = new Gpu();
        Assert.Throws<ArgumentException>(() => gpu.Kernels.Barrier.Enqueue(gpu.Stream, new BarrierArgs { Rank = 2, Ranks = 2 }, 1));
        Assert.Throws<ArgumentException>(() => gpu.Kernels.Barrier.Enqueue(gpu.Stream, new BarrierArgs { Ranks = 65 }, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => gpu.Kernels.Barrier.Enqueue(gpu.Stream, new BarrierArgs { Ranks = 1 }, 0));
    }
}

using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

public class SpanningGroupTests
{
    [Fact]
    public async Task A_buffer_over_several_machines_is_refused_on_every_rank()
    {
        CancellationToken ct = TestContext.Current.CancellationToken;
        using var together = new Barrier(2);
        byte[][] given = [[], []];
        ExpertGroup[] groups = await Task.WhenAll(Enumerable.Range(0, 2).Select(rank => Task.Run(
            () =>
            {
                var options = new ExpertGroupOptions { Rank = rank, Size = 2, BindAddress = "127.0.0.1" };
                byte[] machine = [.. Enumerable.Repeat((byte)rank, 32)];
                return ExpertGroup.JoinAsync(options, (mine, _) => Task.FromResult(AllGather(rank, mine)), machine, ct);
            },
            ct)));
        foreach (ExpertGroup group in groups)
        {
            ArgumentException error = await Assert.ThrowsAsync<ArgumentException>(() => ExpertBuffer.CreateAsync(
                group,
                new ExpertBufferOptions { Backend = CpuBackend.Instance, Experts = 4, TopK = 2, Hidden = 16, MaxTokensPerRank = 8, Element = ElementType.Single },
                ct));
            Assert.Contains("rank 0 (host", error.Message, StringComparison.Ordinal);
            Assert.Contains("cannot map each other's memory", error.Message, StringComparison.Ordinal);
        }
        await Task.WhenAll(groups.Select(group => group.BarrierAsync(ct))); // the group itself goes on
        foreach (ExpertGroup group in groups) group.Dispose();

        byte[][] AllGather(int rank, ReadOnlyMemory<byte> mine)
        {
            given[rank] = mine.ToArray();
            together.SignalAndWait(ct);
            byte[][] all = [.. given];
            together.SignalAndWait(ct);
            return all;
        }
    }
}

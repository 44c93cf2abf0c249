using Switchyard.Cuda.Engine;

namespace Switchyard.Cuda.Tests;

/// <summary>What is told before a buffer is made of devices that do not reach each other; needs none.</summary>
public sealed class LinkTests
{
    [Fact]
    public void Every_pair_of_devices_without_a_link_is_listed_with_its_ranks()
    {
        bool Reaches(int from, int to) => (from, to) is not ((0, 2) or (2, 0) or (3, 1));
        Assert.Equal(
            ["device 0 (rank 0, 4) and device 2 (rank 2) have no direct link", "device 1 (rank 1) and device 3 (rank 3) have no direct link"],
            CudaTransport.MissingLinks([0, 1, 2, 3, 0, null], Reaches));
        Assert.Empty(CudaTransport.MissingLinks([0, 1, 1, 0], Reaches));
        Assert.Empty(CudaTransport.MissingLinks([5, 5, null], (_, _) => false));
    }
}

using Switchyard.Cuda.Engine;

namespace Switchyard.Cuda.Tests;

public sealed class MultiprocessorDefaultTests
{
    [Theory]
    [InlineData(4096, 8, 1, 132, 24)] // much to move: what a link can use
    [InlineData(4096, 8, 8, 16, 16)] // or the memory
    [InlineData(4096, 16, 16, 8, 8)] // or its share
    [InlineData(16, 8, 8, 16, 14)] // 1.8 MB, 128 KiB each
    [InlineData(16, 2, 1, 132, 4)] // a token has no more rows than there are ranks
    [InlineData(1, 8, 8, 16, 4)]
    [InlineData(1, 64, 64, 2, 2)]
    [InlineData(1 << 20, 64, 1, 132, 24)]
    public void It_follows_the_shape_and_the_share(int tokens, int ranks, int neighbours, int share, int expected) =>
        Assert.Equal(expected, MultiprocessorDefault.For(tokens, ranks, topK: 8, rowBytes: 14336, neighbours, share));
}

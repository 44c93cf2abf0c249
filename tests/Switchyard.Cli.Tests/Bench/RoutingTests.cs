using Switchyard.Cli.Bench;
using Xunit;

namespace Switchyard.Cli.Tests.Bench;

public sealed class RoutingTests
{
    private const int Experts = 16;
    private const int TopK = 4;
    private const int Tokens = 20_000;

    [Theory]
    [InlineData("uniform")]
    [InlineData("zipf:0")]
    [InlineData("zipf:1.0")]
    [InlineData("zipf:10")]
    [InlineData("one-hot")]
    public void The_experts_of_a_token_differ(string routing)
    {
        foreach (int[] choices in Draw(routing, 200))
        {
            Assert.Equal(TopK, choices.Distinct().Count());
            Assert.All(choices, expert => Assert.InRange(expert, 0, Experts - 1));
        }
    }

    [Fact]
    public void Uniform_treats_all_experts_alike()
    {
        int[] counts = Counts("uniform");
        // 5000 expected, standard deviation 61: six of it would be one bad draw in a hundred million.
        Assert.All(counts, count => Assert.InRange(count, 5000 - 370, 5000 + 370));
    }

    [Fact]
    public void The_first_choice_follows_the_zipf_law()
    {
        double sum = Enumerable.Range(1, Experts).Sum(place => 1.0 / place);
        ILookup<int, int[]> byFirst = Draw("zipf:1.0", Tokens).ToLookup(choices => choices[0]);
        for (int expert = 0; expert < Experts; expert++)
        {
            double expected = Tokens / (expert + 1) / sum;
            Assert.InRange(byFirst[expert].Count(), expected - (6 * Math.Sqrt(expected)), expected + (6 * Math.Sqrt(expected)));
        }
    }

    [Fact]
    public void One_hot_is_the_first_experts() => Assert.All(Draw("one-hot", 10), choices => Assert.Equal([0, 1, 2, 3], choices));

    [Fact]
    public void Drawing_again_gives_the_same() => Assert.Equal(Draw("zipf:1.0", 50), Draw("zipf:1.0", 50));

    private static int[] Counts(string routing)
    {
        int[] counts = new int[Experts];
        foreach (int expert in Draw(routing, Tokens).SelectMany(choices => choices)) counts[expert]++;
        return counts;
    }

    private static List<int[]> Draw(string routing, int tokens)
    {
        var law = Routing.Named(routing, Experts, TopK);
        var drawn = new List<int[]>();
        for (int token = 0; token < tokens; token++)
        {
            var random = new SplitMix(2, 0, token);
            int[] choices = new int[TopK];
            law.Choose(ref random, token, choices);
            drawn.Add(choices);
        }
        return drawn;
    }
}

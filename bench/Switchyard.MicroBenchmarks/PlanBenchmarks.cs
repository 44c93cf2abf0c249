using BenchmarkDotNet.Attributes;
using Switchyard.MicroBenchmarks.Inputs;

namespace Switchyard.MicroBenchmarks;

/// <summary>Plans a dispatch of 1024 tokens, top-8, among 8 ranks.</summary>
public class PlanBenchmarks
{
    private const int Ranks = 8;
    private const int Tokens = 1024;
    private const int Hidden = 7168;

    private RoutingInput _routing = null!;

    public enum Kind
    {
        RankMajor,
        ExpertMajor,
        PreReduced,
    }

    [Params(64, 256)]
    public int Experts { get; set; }

    [ParamsAllValues]
    public Kind Rows { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        RowLayout layout = Rows == Kind.RankMajor ? RowLayout.RankMajor : RowLayout.ExpertMajor;
        _routing = new RoutingInput(Ranks, Tokens, Experts, Hidden, new() { Layout = layout, PreReduce = Rows == Kind.PreReduced });
    }

    [Benchmark]
    public void Count() => _routing.Count();

    [Benchmark]
    public void CountAndResolve()
    {
        _routing.Count();
        _routing.Resolve();
    }
}

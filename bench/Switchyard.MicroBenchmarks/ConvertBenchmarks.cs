using BenchmarkDotNet.Attributes;
using Switchyard.Cpu.Quantization;
using Switchyard.MicroBenchmarks.Inputs;

namespace Switchyard.MicroBenchmarks;

/// <summary>Converts 64 rows of 7168 elements.</summary>
public class ConvertBenchmarks
{
    private const int Rows = 64;
    private const int Hidden = 7168;

    private ElementRows<BFloat16> _bfloat16s = null!;
    private ElementRows<Half> _halves = null!;
    private ElementRows<float> _singles = null!;

    [GlobalSetup]
    public void Setup() => (_bfloat16s, _halves, _singles) = (new(Rows, Hidden), new(Rows, Hidden), new(Rows, Hidden));

    [GlobalCleanup]
    public void Cleanup()
    {
        _bfloat16s.Dispose();
        _halves.Dispose();
        _singles.Dispose();
    }

    [Benchmark]
    public void BFloat16ToSingle() => ElementConversion.Convert(_bfloat16s.All, _singles.All);

    [Benchmark]
    public void SingleToBFloat16() => ElementConversion.Convert(_singles.All, _bfloat16s.All);

    [Benchmark]
    public void HalfToSingle() => ElementConversion.Convert(_halves.All, _singles.All);

    [Benchmark]
    public void SingleToHalf() => ElementConversion.Convert(_singles.All, _halves.All);

    [Benchmark]
    public void BFloat16ToHalf() => ElementConversion.Convert(_bfloat16s.All, _halves.All);

    [Benchmark]
    public void HalfToBFloat16() => ElementConversion.Convert(_halves.All, _bfloat16s.All);
}

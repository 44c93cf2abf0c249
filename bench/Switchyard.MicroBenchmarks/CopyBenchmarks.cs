using BenchmarkDotNet.Attributes;
using Switchyard.Cpu;
using Switchyard.Cpu.Vectors;
using Switchyard.MicroBenchmarks.Inputs;

namespace Switchyard.MicroBenchmarks;

/// <summary>Copies 2048 rows of 7168 BFloat16, 29 MB: more than the inner caches hold.</summary>
public unsafe class CopyBenchmarks
{
    private const int Rows = 2048;
    private const int Hidden = 7168;

    private ElementRows<BFloat16> _source = null!;
    private ElementRows<BFloat16> _destination = null!;

    [GlobalSetup]
    public void Setup() => (_source, _destination) = (new(Rows, Hidden), new(Rows, Hidden));

    [GlobalCleanup]
    public void Cleanup()
    {
        _source.Dispose();
        _destination.Dispose();
    }

    [Benchmark]
    public void Plain()
    {
        for (int row = 0; row < Rows; row++) RowCopy.Plain(_source[row], _destination[row], _source.RowBytes);
    }

    [Benchmark]
    [Arguments(128)]
    [Arguments(256)]
    [Arguments(512)]
    public void Streaming(int width)
    {
        for (int row = 0; row < Rows; row++) RowCopy.Streaming(_source[row], _destination[row], _source.RowBytes, (VectorWidth)width);
        RowCopy.Fence();
    }
}

using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using Switchyard.Cpu;
using Switchyard.Cpu.Vectors;
using Switchyard.MicroBenchmarks.Inputs;

namespace Switchyard.MicroBenchmarks;

/// <summary>Sums rows of 7168 elements, stored past the caches as a large combine does.</summary>
[GenericTypeArguments(typeof(BFloat16))]
[GenericTypeArguments(typeof(Half))]
[GenericTypeArguments(typeof(float))]
public unsafe class ReduceBenchmarks<T>
    where T : unmanaged
{
    private const int Hidden = 7168;

    private RowReducer _reducer = null!;
    private ElementRows<T> _rows = null!;
    private ElementRows<T> _output = null!;
    private ElementRows<float> _weights = null!;
    private byte** _addresses;

    [Params(128, 256, 512)]
    public int Width { get; set; }

    [Params(2, 8)]
    public int Rows { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        ElementType element =
            typeof(T) == typeof(BFloat16) ? ElementType.BFloat16 :
            typeof(T) == typeof(Half) ? ElementType.Half : ElementType.Single;
        _reducer = RowReducer.For(element, (VectorWidth)Width);
        _rows = new ElementRows<T>(Rows, Hidden);
        _output = new ElementRows<T>(1, Hidden);
        _weights = new ElementRows<float>(1, Rows);
        _addresses = (byte**)NativeMemory.Alloc((nuint)Rows, (nuint)sizeof(byte*));
        for (int row = 0; row < Rows; row++) _addresses[row] = _rows[row];
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _rows.Dispose();
        _output.Dispose();
        _weights.Dispose();
        NativeMemory.Free(_addresses);
    }

    [Benchmark]
    public void Sum() => _reducer.Reduce(_addresses, null, Rows, _output[0], Hidden, streams: true);

    [Benchmark]
    public void WeightedSum() => _reducer.Reduce(_addresses, (float*)_weights[0], Rows, _output[0], Hidden, streams: true);
}

using BenchmarkDotNet.Attributes;
using Switchyard.Cpu.Quantization;
using Switchyard.MicroBenchmarks.Inputs;

namespace Switchyard.MicroBenchmarks;

/// <summary>64 rows of 7168 elements to Float8 and back, with every kind of scales.</summary>
[GenericTypeArguments(typeof(BFloat16))]
[GenericTypeArguments(typeof(Half))]
[GenericTypeArguments(typeof(float))]
public class QuantizeBenchmarks<T>
    where T : unmanaged
{
    private const int Rows = 64;
    private const int Hidden = 7168;

    private readonly Float8E4M3[] _codes = new Float8E4M3[Rows * Hidden];
    private ElementRows<T> _elements = null!;
    private float[] _scales = [];
    private int[] _packed = [];

    [Params(ScaleLayout.RowMajor, ScaleLayout.ColumnMajor)]
    public ScaleLayout Layout { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _elements = new ElementRows<T>(Rows, Hidden);
        _scales = new float[Float8Scales.Count(Rows, Hidden, Layout)];
        _packed = new int[Float8Scales.PackedCount(Rows, Hidden, Layout)];
        // What the other direction reads.
        Quantize();
        QuantizePacked();
    }

    [GlobalCleanup]
    public void Cleanup() => _elements.Dispose();

    [Benchmark]
    public void Quantize() => Float8Quantizer.Quantize<T>(_elements.All, Hidden, _codes, _scales, Float8Scaling.Single, Layout);

    [Benchmark]
    public void QuantizeToPowers() => Float8Quantizer.Quantize<T>(_elements.All, Hidden, _codes, _scales, Float8Scaling.PowerOfTwo, Layout);

    [Benchmark]
    public void QuantizePacked() => Float8Quantizer.Quantize<T>(_elements.All, Hidden, _codes, _packed, Layout);

    [Benchmark]
    public void Dequantize() => Float8Quantizer.Dequantize(_codes, Hidden, _scales, _elements.All, Layout);

    [Benchmark]
    public void DequantizePacked() => Float8Quantizer.Dequantize(_codes, Hidden, _packed, _elements.All, Layout);
}

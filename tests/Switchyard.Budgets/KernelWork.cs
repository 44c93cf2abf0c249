using System.Runtime.CompilerServices;
using Switchyard.Cpu;
using Switchyard.Cpu.Quantization;
using Switchyard.Cpu.Vectors;
using Switchyard.MicroBenchmarks.Inputs;

namespace Switchyard.Budgets;

/// <summary>Loops over rows of 7168 elements with vectors of 256 bits, the widest that valgrind knows.</summary>
internal static unsafe class KernelWork
{
    private const int Hidden = 7168;
    private const VectorWidth Width = VectorWidth.Bits256;

    public static IEnumerable<(string Name, Action Work)> All() =>
    [
        ("reduce-2-rows-bfloat16", Reduce<BFloat16>(ElementType.BFloat16, 2, isWeighted: false)),
        ("reduce-8-rows-bfloat16", Reduce<BFloat16>(ElementType.BFloat16, 8, isWeighted: false)),
        ("reduce-8-rows-bfloat16-weighted", Reduce<BFloat16>(ElementType.BFloat16, 8, isWeighted: true)),
        ("reduce-8-rows-half", Reduce<Half>(ElementType.Half, 8, isWeighted: false)),
        ("reduce-8-rows-single", Reduce<float>(ElementType.Single, 8, isWeighted: false)),
        ("copy-row-streaming", CopyStreaming()),
        ("copy-row-streaming-twice", CopyStreamingTwice()),
        ("quantize-bfloat16-single-scales", Quantize<BFloat16, float>(Float8Scaling.Single)),
        ("quantize-bfloat16-packed-scales", Quantize<BFloat16, int>(Float8Scaling.Packed)),
        ("quantize-half-single-scales", Quantize<Half, float>(Float8Scaling.Single)),
        ("quantize-single-single-scales", Quantize<float, float>(Float8Scaling.Single)),
        ("dequantize-bfloat16-single-scales", Dequantize<BFloat16, float>()),
        ("dequantize-bfloat16-packed-scales", Dequantize<BFloat16, int>()),
        ("dequantize-half-single-scales", Dequantize<Half, float>()),
        ("dequantize-single-single-scales", Dequantize<float, float>()),
        ("convert-bfloat16-to-single", Convert<BFloat16, float>()),
        ("convert-single-to-bfloat16", Convert<float, BFloat16>()),
        ("convert-half-to-single", Convert<Half, float>()),
        ("convert-single-to-half", Convert<float, Half>()),
        ("convert-half-to-bfloat16", Convert<Half, BFloat16>()),
        ("convert-bfloat16-to-half", Convert<BFloat16, Half>()),
    ];

    private static Action Reduce<T>(ElementType element, int count, bool isWeighted)
        where T : unmanaged
    {
        var rows = new ElementRows<T>(count, Hidden);
        var weights = new ElementRows<float>(1, count);
        var output = new ElementRows<T>(1, Hidden);
        var reducer = RowReducer.For(element, Width);
        return () =>
        {
            byte** addresses = stackalloc byte*[count];
            for (int row = 0; row < count; row++) addresses[row] = rows[row];
            reducer.Reduce(addresses, isWeighted ? (float*)weights[0] : null, count, output[0], Hidden, streams: true);
        };
    }

    private static Action CopyStreaming()
    {
        ElementRows<BFloat16> source = new(1, Hidden), destination = new(1, Hidden);
        return () => RowCopy.Streaming(source[0], destination[0], source.RowBytes, Width);
    }

    private static Action CopyStreamingTwice()
    {
        ElementRows<BFloat16> source = new(1, Hidden), destinations = new(2, Hidden);
        return () => RowCopy.StreamingTwice(source[0], destinations[0], destinations[1], source.RowBytes, Width);
    }

    private static Action Quantize<T, TEntry>(Float8Scaling scaling)
        where T : unmanaged
        where TEntry : unmanaged
    {
        var source = new ElementRows<T>(1, Hidden);
        var codes = new Float8E4M3[Hidden];
        var scales = new TEntry[Hidden / Float8Scales.GroupSize];
        return () => Float8Quantizer.Quantize<T, TEntry>(source.All, Hidden, codes, scales, scaling, ScaleLayout.RowMajor, Width);
    }

    private static Action Dequantize<T, TEntry>()
        where T : unmanaged
        where TEntry : unmanaged
    {
        var codes = new ElementRows<Float8E4M3>(1, Hidden);
        var scales = new TEntry[Hidden / Float8Scales.GroupSize];
        // Of both kinds an ordinary number: 2^0 in every place of a packed entry, about 1.5 × 10^38 as a single.
        scales.AsSpan().Fill(Unsafe.BitCast<uint, TEntry>(0x7F7F_7F7F));
        var elements = new T[Hidden];
        return () => Float8Quantizer.Dequantize<T, TEntry>(codes.All, Hidden, scales, elements, ScaleLayout.RowMajor, Width);
    }

    private static Action Convert<TSource, TTarget>()
        where TSource : unmanaged
        where TTarget : unmanaged
    {
        var source = new ElementRows<TSource>(1, Hidden);
        var target = new ElementRows<TTarget>(1, Hidden);
        return () => ElementConversion.Convert<TSource, TTarget>(source.All, target.All, Width);
    }
}

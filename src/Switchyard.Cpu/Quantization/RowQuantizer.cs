using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu.Quantization;

/// <summary>Quantizes rows one at a time into memory of the thread, from where each goes to all of its destinations.</summary>
/// <param name="element">The rows' element.</param>
/// <param name="hidden">Elements of a row.</param>
/// <param name="width">The vectors' width; the result does not depend on it.</param>
internal sealed unsafe class RowQuantizer(ElementType element, int hidden, VectorWidth width)
{
    /// <summary>A row of any buffer: codes, then scales.</summary>
    [ThreadStatic]
    private static byte[]? _scratch;

    private readonly int _scalesOffset = (int)ArenaLayout.AlignUp(hidden, ArenaLayout.LineBytes);

    /// <summary>Puts a quantized row and its scales, valid until this thread's next, in place of a row.</summary>
    public void Quantize(Float8Scaling scaling, ref byte* row, ref byte* scales)
    {
        byte* codes = Scratch();
        scales = codes + _scalesOffset;
        switch (element)
        {
            case ElementType.BFloat16: Quantize<BFloat16>(scaling, row, codes, scales); break;
            case ElementType.Half: Quantize<Half>(scaling, row, codes, scales); break;
            default: Quantize<float>(scaling, row, codes, scales); break;
        }
        row = codes;
    }

    private void Quantize<T>(Float8Scaling scaling, byte* row, byte* codes, byte* scales)
        where T : unmanaged
    {
        if (scaling == Float8Scaling.Packed) Quantize<T, int>(scaling, row, codes, scales, Float8Scales.PackedPerRow(hidden));
        else Quantize<T, float>(scaling, row, codes, scales, Float8Scales.PerRow(hidden));
    }

    private void Quantize<T, TEntry>(Float8Scaling scaling, byte* row, byte* codes, byte* scales, int entries)
        where T : unmanaged
        where TEntry : unmanaged =>
        Float8Quantizer.Quantize<T, TEntry>(
            new(row, hidden), hidden, new(codes, hidden), new(scales, entries), scaling, ScaleLayout.RowMajor, width);

    /// <summary>At a line's start, so that loads of whole vectors stay within lines.</summary>
    private byte* Scratch()
    {
        int bytes = _scalesOffset + (Float8Scales.PerRow(hidden) * sizeof(float)) + ArenaLayout.LineBytes;
        byte[]? scratch = _scratch;
        if (scratch is null || scratch.Length < bytes) _scratch = scratch = GC.AllocateUninitializedArray<byte>(bytes, pinned: true);
        return (byte*)ArenaLayout.AlignUp((long)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(scratch)), ArenaLayout.LineBytes);
    }
}

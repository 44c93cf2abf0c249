using System.Runtime.InteropServices;
using Switchyard.Cpu.Vectors;

namespace Switchyard.MicroBenchmarks.Inputs;

/// <summary>Rows of random elements between -8 and 8, the same in every run, in memory that never moves and starts at a page.</summary>
internal sealed unsafe class ElementRows<T> : IDisposable
    where T : unmanaged
{
    private const int PageBytes = 4096;

    private readonly int _rows;
    private readonly int _length;
    private T* _memory;

    public ElementRows(int rows, int length)
    {
        (_rows, _length) = (rows, length);
        _memory = (T*)NativeMemory.AlignedAlloc((nuint)rows * (nuint)RowBytes, PageBytes);
        var random = new Random(rows);
        foreach (ref T element in All) element = Elements.FromSingle<T>((random.NextSingle() * 16) - 8);
    }

    public int RowBytes => _length * sizeof(T);

    public Span<T> All => new(_memory, _rows * _length);

    public byte* this[int row] => (byte*)(_memory + ((nint)row * _length));

    public void Dispose()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
    }
}

using System.Runtime.InteropServices;

namespace Switchyard.Cli.Bench.Work;

/// <summary>Rows in memory of their own, as a caller has them.</summary>
internal interface IRows : IDisposable
{
    TensorView View { get; }
}

/// <summary>Rows in ordinary memory.</summary>
internal sealed unsafe class NativeRows : IRows
{
    private const int LineBytes = 64;

    private readonly ElementType _element;
    private readonly int _rows;
    private readonly int _hidden;
    private byte* _memory;

    public NativeRows(int rows, int hidden, ElementType element)
    {
        _rows = rows;
        _hidden = hidden;
        _element = element;
        _memory = (byte*)NativeMemory.AlignedAlloc((nuint)rows * (nuint)hidden * (nuint)element.SizeInBytes(), LineBytes);
    }

    public TensorView View => TensorView.FromPointer((nint)_memory, _rows, _hidden, _hidden, _element);

    public void Dispose()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
    }
}

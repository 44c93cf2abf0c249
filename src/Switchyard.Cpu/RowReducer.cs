using Switchyard.Cpu.Vectors;

namespace Switchyard.Cpu;

/// <summary>
/// Adds rows element by element in single precision, in the order given, and rounds once. The first row starts the sum. Where there are weights,
/// each row is multiplied by its own first, and the product rounded by itself.
/// </summary>
internal abstract unsafe class RowReducer
{
    /// <param name="element">The element of rows and sums.</param>
    /// <param name="width">The vectors' width; the sums do not depend on it.</param>
    public static RowReducer For(ElementType element, VectorWidth width) => element switch
    {
        ElementType.BFloat16 => For<BFloat16Block, BFloat16>(width),
        ElementType.Half => ForHalf(width),
        ElementType.Single => For<SingleBlock, float>(width),
        _ => throw new ArgumentOutOfRangeException(nameof(element), element, "Rows of this element are not reduced."),
    };

    /// <param name="rows">The rows' addresses.</param>
    /// <param name="weights">A weight a row, or null.</param>
    /// <param name="count">How many; none gives zeros.</param>
    /// <param name="output">The sum; must not overlap the rows.</param>
    /// <param name="length">Elements of a row.</param>
    /// <param name="streams">Whether sums are written past the caches; the thread must fence before it tells anyone.</param>
    public abstract void Reduce(byte** rows, float* weights, int count, byte* output, int length, bool streams);

    private static RowReducer For<TBlock, T>(VectorWidth width)
        where TBlock : struct, IReducerBlock
        where T : unmanaged => width switch
        {
            VectorWidth.Bits512 => new BlockReducer<Lanes512, TBlock, T>(),
            VectorWidth.Bits256 => new BlockReducer<Lanes256, TBlock, T>(),
            _ => new BlockReducer<Lanes128, TBlock, T>(),
        };

    private static RowReducer ForHalf(VectorWidth width) => width switch
    {
        VectorWidth.Bits512 => new HalfReducer<Lanes512>(),
        VectorWidth.Bits256 => new HalfReducer<Lanes256>(),
        _ => new HalfReducer<Lanes128>(),
    };
}

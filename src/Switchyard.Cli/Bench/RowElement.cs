using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Switchyard.Cli.Bench;

/// <summary>All that the bench knows about an element type. A new one is a new entry of <see cref="All"/>.</summary>
internal abstract class RowElement
{
    // Random bits for sign, fraction and the low bits of the exponent, so that every value is finite and near 1: sums round, none
    // overflows.
    private readonly ulong _randomBits;
    private readonly ulong _fixedBits;

    private RowElement(string name, ElementType type, ulong randomBits, ulong fixedBits)
    {
        Name = name;
        Type = type;
        _randomBits = randomBits;
        _fixedBits = fixedBits;
    }

    public static IReadOnlyList<RowElement> All { get; } = [new OfBFloat16(), new OfHalf(), new OfSingle(), new OfFloat8(), new OfBFloat16ToFloat8()];

    public static IEnumerable<string> Names => All.Select(element => element.Name);

    public string Name { get; }

    public ElementType Type { get; }

    public int Bytes => Type.SizeInBytes();

    /// <summary>The element of results and sums: this one, unless rows of it are not combined.</summary>
    public RowElement Result => Type.IsReducible() ? this : Named("bf16");

    /// <summary>How rows are quantized on their way.</summary>
    public virtual Float8Scaling Quantize => Float8Scaling.None;

    /// <summary>The element of rows that arrive: this one, unless they are quantized on their way.</summary>
    public RowElement Arriving => Quantize == Float8Scaling.None ? this : Named("fp8");

    /// <summary>Scales that a rank gives with a row, single; 0 for none.</summary>
    public virtual int ScalesOf(int hidden) => 0;

    public static RowElement Named(string name) => All.First(element => element.Name == name);

    /// <summary>The bytes of one row of a view, whatever its element.</summary>
    public static Span<byte> RowOf(TensorView view, nint row)
    {
        nint bytes = view.Element.SizeInBytes();
        ref byte start = ref Unsafe.Add(ref view.Origin, row * view.RowStride * bytes);
        return MemoryMarshal.CreateSpan(ref start, checked((int)(view.RowLength * bytes)));
    }

    /// <summary>Fills a row with finite random values.</summary>
    public void Draw(ref SplitMix random, Span<byte> row)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(row);
        for (int i = 0; i < words.Length; i++)
            words[i] = (random.Next() & _randomBits) | _fixedBits;
        Span<byte> rest = row[(words.Length * sizeof(ulong))..];
        ulong last = (random.Next() & _randomBits) | _fixedBits;
        MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in last))[..rest.Length].CopyTo(rest);
    }

    public abstract void ToSingle(ReadOnlySpan<byte> row, Span<float> values);

    /// <summary>Rounds to nearest, ties to even.</summary>
    public abstract void FromSingle(ReadOnlySpan<float> values, Span<byte> row);

    private class OfBFloat16(string name = "bf16") : RowElement(name, ElementType.BFloat16, 0x83FF_83FF_83FF_83FF, 0x3C00_3C00_3C00_3C00)
    {
        public override void ToSingle(ReadOnlySpan<byte> row, Span<float> values)
        {
            ReadOnlySpan<BFloat16> elements = MemoryMarshal.Cast<byte, BFloat16>(row);
            for (int i = 0; i < elements.Length; i++)
                values[i] = elements[i].ToSingle();
        }

        public override void FromSingle(ReadOnlySpan<float> values, Span<byte> row)
        {
            Span<BFloat16> elements = MemoryMarshal.Cast<byte, BFloat16>(row);
            for (int i = 0; i < elements.Length; i++)
                elements[i] = BFloat16.FromSingle(values[i]);
        }
    }

    private sealed class OfHalf() : RowElement("half", ElementType.Half, 0x87FF_87FF_87FF_87FF, 0x3800_3800_3800_3800)
    {
        public override void ToSingle(ReadOnlySpan<byte> row, Span<float> values)
        {
            ReadOnlySpan<Half> elements = MemoryMarshal.Cast<byte, Half>(row);
            for (int i = 0; i < elements.Length; i++)
                values[i] = (float)elements[i];
        }

        public override void FromSingle(ReadOnlySpan<float> values, Span<byte> row)
        {
            Span<Half> elements = MemoryMarshal.Cast<byte, Half>(row);
            for (int i = 0; i < elements.Length; i++)
                elements[i] = (Half)values[i];
        }
    }

    /// <summary>Rows of Float8 with a scale for each 128 channels.</summary>
    private sealed class OfFloat8() : RowElement("fp8", ElementType.Float8E4M3, 0x8787_8787_8787_8787, 0x3838_3838_3838_3838)
    {
        public override int ScalesOf(int hidden) => Float8Scales.PerRow(hidden);

        public override void ToSingle(ReadOnlySpan<byte> row, Span<float> values)
        {
            for (int i = 0; i < row.Length; i++)
                values[i] = new Float8E4M3(row[i]).ToSingle();
        }

        public override void FromSingle(ReadOnlySpan<float> values, Span<byte> row) =>
            throw new InvalidOperationException("Sums are not rounded to Float8.");
    }

    /// <summary>Rows of BFloat16 that become <see cref="OfFloat8"/> on their way.</summary>
    private sealed class OfBFloat16ToFloat8() : OfBFloat16("bf16-fp8")
    {
        public override Float8Scaling Quantize => Float8Scaling.Single;
    }

    private sealed class OfSingle() : RowElement("single", ElementType.Single, 0x83FF_FFFF_83FF_FFFF, 0x3C00_0000_3C00_0000)
    {
        public override void ToSingle(ReadOnlySpan<byte> row, Span<float> values) => MemoryMarshal.Cast<byte, float>(row).CopyTo(values);

        public override void FromSingle(ReadOnlySpan<float> values, Span<byte> row) => values.CopyTo(MemoryMarshal.Cast<byte, float>(row));
    }
}

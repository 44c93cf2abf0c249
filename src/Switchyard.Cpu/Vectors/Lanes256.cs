using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Switchyard.Cpu.Vectors;

/// <summary>The eight lanes of a <see cref="Vector256{T}"/>.</summary>
internal readonly struct Lanes256(Vector256<float> values) : ILanes<Lanes256>
{
    private readonly Vector256<float> _values = values;

    private Vector256<int> Bits => _values.AsInt32();

    public static int Count => Vector256<float>.Count;

    public static Lanes256 Create(float value) => new(Vector256.Create(value));

    public static Lanes256 Create(uint bits) => new(Vector256.Create(bits).AsSingle());

    public static Lanes256 Load(ref readonly float source) => new(Vector256.LoadUnsafe(in source));

    public static Lanes256 operator +(Lanes256 left, Lanes256 right) => new(left._values + right._values);

    public static Lanes256 operator -(Lanes256 left, Lanes256 right) => new(left._values - right._values);

    public static Lanes256 operator *(Lanes256 left, Lanes256 right) => new(left._values * right._values);

    public static Lanes256 operator &(Lanes256 left, Lanes256 right) => new(left._values & right._values);

    public static Lanes256 operator |(Lanes256 left, Lanes256 right) => new(left._values | right._values);

    public static Lanes256 operator ^(Lanes256 left, Lanes256 right) => new(left._values ^ right._values);

    public static Lanes256 operator ~(Lanes256 lanes) => new(~lanes._values);

    public static Lanes256 operator <<(Lanes256 lanes, int count) => Of(lanes.Bits << count);

    public static Lanes256 operator >>(Lanes256 lanes, int count) => Of(lanes.Bits >> count);

    public static Lanes256 operator >>>(Lanes256 lanes, int count) => Of(lanes.Bits >>> count);

    public static Lanes256 AddBits(Lanes256 left, Lanes256 right) => Of(left.Bits + right.Bits);

    public static Lanes256 MinBits(Lanes256 left, Lanes256 right) => Of(Vector256.Min(left.Bits, right.Bits));

    public static Lanes256 MaxBits(Lanes256 left, Lanes256 right) => Of(Vector256.Max(left.Bits, right.Bits));

    public static Lanes256 SelectLess(Lanes256 left, Lanes256 right, Lanes256 yes, Lanes256 no) =>
        Of(Vector256.ConditionalSelect(Vector256.LessThan(left.Bits, right.Bits), yes.Bits, no.Bits));

    public static bool AnyNaN(Lanes256 a, Lanes256 b, Lanes256 c, Lanes256 d) => (Unordered(a, b) | Unordered(c, d)).AsInt32() != Vector256<int>.Zero;

    public static Lanes256 SelectNaN(Lanes256 values, Lanes256 yes, Lanes256 no) =>
        new(Vector256.ConditionalSelect(Vector256.IsNaN(values._values), yes._values, no._values));

    public void Store(ref float destination) => _values.StoreUnsafe(ref destination);

    public unsafe void StoreStreaming(ref float destination) => _values.StoreAlignedNonTemporal((float*)Unsafe.AsPointer(ref destination));

    public static Lanes256 LoadWidened(ref readonly ushort source) => Widen(Vector128.LoadUnsafe(in source));

    public static Lanes256 LoadWidened(ref readonly byte source) =>
        Widen(Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<ulong>(in source)).AsByte()));

    public void StoreNarrowed(ref ushort destination) => Narrow().StoreUnsafe(ref destination);

    public void StoreNarrowed(ref byte destination)
    {
        Vector128<ushort> halves = Narrow();
        Unsafe.WriteUnaligned(ref destination, Vector128.Narrow(halves, halves).AsUInt64().ToScalar());
    }

    public int MaxLaneBits() => Lanes128.MaxBits(new(_values.GetLower()), new(_values.GetUpper())).MaxLaneBits();

    private static Lanes256 Widen(Vector128<ushort> halves) => Of(Vector256.WidenLower(halves.ToVector256Unsafe()).AsInt32());

    private Vector128<ushort> Narrow() => Vector128.Narrow(_values.GetLower().AsUInt32(), _values.GetUpper().AsUInt32());

    /// <summary>All bits of a lane set where it is a NaN in either.</summary>
    private static Vector256<float> Unordered(Lanes256 left, Lanes256 right) =>
        Avx.IsSupported ? Avx.CompareUnordered(left._values, right._values) : Vector256.IsNaN(left._values) | Vector256.IsNaN(right._values);

    private static Lanes256 Of(Vector256<int> bits) => new(bits.AsSingle());
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Switchyard.Cpu.Vectors;

/// <summary>The sixteen lanes of a <see cref="Vector512{T}"/>.</summary>
internal readonly struct Lanes512(Vector512<float> values) : ILanes<Lanes512>
{
    private readonly Vector512<float> _values = values;

    private Vector512<int> Bits => _values.AsInt32();

    public static int Count => Vector512<float>.Count;

    public static Lanes512 Create(float value) => new(Vector512.Create(value));

    public static Lanes512 Create(uint bits) => new(Vector512.Create(bits).AsSingle());

    public static Lanes512 Load(ref readonly float source) => new(Vector512.LoadUnsafe(in source));

    public static Lanes512 operator +(Lanes512 left, Lanes512 right) => new(left._values + right._values);

    public static Lanes512 operator -(Lanes512 left, Lanes512 right) => new(left._values - right._values);

    public static Lanes512 operator *(Lanes512 left, Lanes512 right) => new(left._values * right._values);

    public static Lanes512 operator &(Lanes512 left, Lanes512 right) => new(left._values & right._values);

    public static Lanes512 operator |(Lanes512 left, Lanes512 right) => new(left._values | right._values);

    public static Lanes512 operator ^(Lanes512 left, Lanes512 right) => new(left._values ^ right._values);

    public static Lanes512 operator ~(Lanes512 lanes) => new(~lanes._values);

    public static Lanes512 operator <<(Lanes512 lanes, int count) => Of(lanes.Bits << count);

    public static Lanes512 operator >>(Lanes512 lanes, int count) => Of(lanes.Bits >> count);

    public static Lanes512 operator >>>(Lanes512 lanes, int count) => Of(lanes.Bits >>> count);

    public static Lanes512 AddBits(Lanes512 left, Lanes512 right) => Of(left.Bits + right.Bits);

    public static Lanes512 MinBits(Lanes512 left, Lanes512 right) => Of(Vector512.Min(left.Bits, right.Bits));

    public static Lanes512 MaxBits(Lanes512 left, Lanes512 right) => Of(Vector512.Max(left.Bits, right.Bits));

    public static Lanes512 SelectLess(Lanes512 left, Lanes512 right, Lanes512 yes, Lanes512 no) =>
        Of(Vector512.ConditionalSelect(Vector512.LessThan(left.Bits, right.Bits), yes.Bits, no.Bits));

    public static bool AnyNaN(Lanes512 a, Lanes512 b, Lanes512 c, Lanes512 d) => (Unordered(a, b) | Unordered(c, d)).AsInt32() != Vector512<int>.Zero;

    public static Lanes512 SelectNaN(Lanes512 values, Lanes512 yes, Lanes512 no) =>
        new(Vector512.ConditionalSelect(Vector512.IsNaN(values._values), yes._values, no._values));

    public void Store(ref float destination) => _values.StoreUnsafe(ref destination);

    public unsafe void StoreStreaming(ref float destination) => _values.StoreAlignedNonTemporal((float*)Unsafe.AsPointer(ref destination));

    public static Lanes512 LoadWidened(ref readonly ushort source) => Widen(Vector256.LoadUnsafe(in source));

    public static Lanes512 LoadWidened(ref readonly byte source) =>
        Widen(Vector256.WidenLower(Vector128.LoadUnsafe(in source).ToVector256Unsafe()));

    public void StoreNarrowed(ref ushort destination) => Narrow().StoreUnsafe(ref destination);

    public void StoreNarrowed(ref byte destination)
    {
        Vector256<ushort> halves = Narrow();
        Vector128.Narrow(halves.GetLower(), halves.GetUpper()).StoreUnsafe(ref destination);
    }

    public int MaxLaneBits() => Lanes256.MaxBits(new(_values.GetLower()), new(_values.GetUpper())).MaxLaneBits();

    private static Lanes512 Widen(Vector256<ushort> halves) => Of(Vector512.WidenLower(halves.ToVector512Unsafe()).AsInt32());

    private Vector256<ushort> Narrow() => Vector256.Narrow(_values.GetLower().AsUInt32(), _values.GetUpper().AsUInt32());

    /// <summary>All bits of a lane set where it is a NaN in either.</summary>
    private static Vector512<float> Unordered(Lanes512 left, Lanes512 right) =>
        Avx512F.IsSupported ? Avx512F.CompareUnordered(left._values, right._values) : Vector512.IsNaN(left._values) | Vector512.IsNaN(right._values);

    private static Lanes512 Of(Vector512<int> bits) => new(bits.AsSingle());
}

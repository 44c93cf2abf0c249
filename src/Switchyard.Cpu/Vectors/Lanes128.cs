using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Switchyard.Cpu.Vectors;

/// <summary>The four lanes of a <see cref="Vector128{T}"/>.</summary>
internal readonly struct Lanes128(Vector128<float> values) : ILanes<Lanes128>
{
    private readonly Vector128<float> _values = values;

    private Vector128<int> Bits => _values.AsInt32();

    public static int Count => Vector128<float>.Count;

    public static Lanes128 Create(float value) => new(Vector128.Create(value));

    public static Lanes128 Create(uint bits) => new(Vector128.Create(bits).AsSingle());

    public static Lanes128 Load(ref readonly float source) => new(Vector128.LoadUnsafe(in source));

    public static Lanes128 operator +(Lanes128 left, Lanes128 right) => new(left._values + right._values);

    public static Lanes128 operator -(Lanes128 left, Lanes128 right) => new(left._values - right._values);

    public static Lanes128 operator *(Lanes128 left, Lanes128 right) => new(left._values * right._values);

    public static Lanes128 operator &(Lanes128 left, Lanes128 right) => new(left._values & right._values);

    public static Lanes128 operator |(Lanes128 left, Lanes128 right) => new(left._values | right._values);

    public static Lanes128 operator ^(Lanes128 left, Lanes128 right) => new(left._values ^ right._values);

    public static Lanes128 operator ~(Lanes128 lanes) => new(~lanes._values);

    public static Lanes128 operator <<(Lanes128 lanes, int count) => Of(lanes.Bits << count);

    public static Lanes128 operator >>(Lanes128 lanes, int count) => Of(lanes.Bits >> count);

    public static Lanes128 operator >>>(Lanes128 lanes, int count) => Of(lanes.Bits >>> count);

    public static Lanes128 AddBits(Lanes128 left, Lanes128 right) => Of(left.Bits + right.Bits);

    public static Lanes128 MinBits(Lanes128 left, Lanes128 right) => Of(Vector128.Min(left.Bits, right.Bits));

    public static Lanes128 MaxBits(Lanes128 left, Lanes128 right) => Of(Vector128.Max(left.Bits, right.Bits));

    public static Lanes128 SelectLess(Lanes128 left, Lanes128 right, Lanes128 yes, Lanes128 no) =>
        Of(Vector128.ConditionalSelect(Vector128.LessThan(left.Bits, right.Bits), yes.Bits, no.Bits));

    public static bool AnyNaN(Lanes128 a, Lanes128 b, Lanes128 c, Lanes128 d) => (Unordered(a, b) | Unordered(c, d)).AsInt32() != Vector128<int>.Zero;

    public static Lanes128 SelectNaN(Lanes128 values, Lanes128 yes, Lanes128 no) =>
        new(Vector128.ConditionalSelect(Vector128.IsNaN(values._values), yes._values, no._values));

    public void Store(ref float destination) => _values.StoreUnsafe(ref destination);

    public unsafe void StoreStreaming(ref float destination) => _values.StoreAlignedNonTemporal((float*)Unsafe.AsPointer(ref destination));

    public static Lanes128 LoadWidened(ref readonly ushort source) => Of(Vector128.WidenLower(Load8Bytes(in source).AsUInt16()).AsInt32());

    public static Lanes128 LoadWidened(ref readonly byte source)
    {
        uint bytes = Unsafe.ReadUnaligned<uint>(in source);
        return Of(Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(bytes).AsByte())).AsInt32());
    }

    public void StoreNarrowed(ref ushort destination) =>
        Unsafe.WriteUnaligned(ref Unsafe.As<ushort, byte>(ref destination), Narrow().AsUInt64().ToScalar());

    public void StoreNarrowed(ref byte destination)
    {
        Vector128<ushort> halves = Narrow();
        Unsafe.WriteUnaligned(ref destination, Vector128.Narrow(halves, halves).AsUInt32().ToScalar());
    }

    public int MaxLaneBits()
    {
        Vector128<int> greatest = Vector128.Max(Bits, Vector128.Shuffle(Bits, Vector128.Create(2, 3, 0, 1)));
        return Vector128.Max(greatest, Vector128.Shuffle(greatest, Vector128.Create(1, 0, 3, 2))).ToScalar();
    }

    private Vector128<ushort> Narrow() => Vector128.Narrow(_values.AsUInt32(), _values.AsUInt32());

    private static Vector128<ulong> Load8Bytes(ref readonly ushort source) =>
        Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<ulong>(in Unsafe.As<ushort, byte>(ref Unsafe.AsRef(in source))));

    /// <summary>All bits of a lane set where it is a NaN in either.</summary>
    private static Vector128<float> Unordered(Lanes128 left, Lanes128 right) =>
        Sse.IsSupported ? Sse.CompareUnordered(left._values, right._values) : Vector128.IsNaN(left._values) | Vector128.IsNaN(right._values);

    private static Lanes128 Of(Vector128<int> bits) => new(bits.AsSingle());
}

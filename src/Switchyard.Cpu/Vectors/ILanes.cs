using System.Numerics;

namespace Switchyard.Cpu.Vectors;

/// <summary>
/// A vector of 32-bit lanes of one width. Loops and conversions are written once, over this, and compiled for each width. Arithmetic
/// operators take the lanes as <see cref="float"/>; shifts, masks and whatever has Bits in its name take them as 32-bit integers.
/// </summary>
internal interface ILanes<TSelf> :
    IAdditionOperators<TSelf, TSelf, TSelf>,
    ISubtractionOperators<TSelf, TSelf, TSelf>,
    IMultiplyOperators<TSelf, TSelf, TSelf>,
    IBitwiseOperators<TSelf, TSelf, TSelf>,
    IShiftOperators<TSelf, int, TSelf>
    where TSelf : struct, ILanes<TSelf>
{
    /// <summary>How many lanes there are.</summary>
    static abstract int Count { get; }

    static abstract TSelf Create(float value);

    static abstract TSelf Create(uint bits);

    static abstract TSelf Load(ref readonly float source);

    /// <summary>Loads <see cref="Count"/> integers and extends each with zeros.</summary>
    static abstract TSelf LoadWidened(ref readonly ushort source);

    /// <inheritdoc cref="LoadWidened(ref readonly ushort)"/>
    static abstract TSelf LoadWidened(ref readonly byte source);

    void Store(ref float destination);

    /// <summary>
    /// Stores past the caches, to an address that is a multiple of the vector's bytes. Others see it in no order until a store fence.
    /// </summary>
    void StoreStreaming(ref float destination);

    /// <summary>Stores the low bits of each lane.</summary>
    void StoreNarrowed(ref ushort destination);

    /// <inheritdoc cref="StoreNarrowed(ref ushort)"/>
    void StoreNarrowed(ref byte destination);

    static abstract TSelf AddBits(TSelf left, TSelf right);

    /// <summary>The lesser of each pair, as signed integers.</summary>
    static abstract TSelf MinBits(TSelf left, TSelf right);

    /// <summary>The greater of each pair, as signed integers.</summary>
    static abstract TSelf MaxBits(TSelf left, TSelf right);

    /// <summary>The lanes of one where left is less than right, as signed integers, of the other elsewhere.</summary>
    static abstract TSelf SelectLess(TSelf left, TSelf right, TSelf yes, TSelf no);

    /// <summary>Whether any lane of any of them is a NaN.</summary>
    static abstract bool AnyNaN(TSelf a, TSelf b, TSelf c, TSelf d);

    /// <summary>The lanes of one where a value is a NaN, of the other elsewhere.</summary>
    static abstract TSelf SelectNaN(TSelf values, TSelf yes, TSelf no);

    /// <summary>The greatest lane, as a signed integer.</summary>
    int MaxLaneBits();
}

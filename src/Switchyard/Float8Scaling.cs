namespace Switchyard;

/// <summary>
/// How rows of <see cref="BFloat16"/>, <see cref="Half"/> or <see cref="float"/> become <see cref="Float8E4M3"/>: which numbers may be the
/// scales, one for each <see cref="Float8Scales.GroupSize"/> channels of a row.
/// </summary>
/// <remarks>
/// A group's magnitude m is the greatest of its finite elements' magnitudes, at least 10^-4: a group of zeros gives zeros and a finite
/// scale. All arithmetic is in single precision, each operation rounded to nearest even. NaN and infinities have no part in the scale: a NaN
/// becomes a NaN, an infinity ±448. The same inputs give the same bits on every processor. The formulas are those of DeepEP's casts to FP8.
/// </remarks>
public enum Float8Scaling : byte
{
    /// <summary>Rows stay as they are.</summary>
    None = 0,

    /// <summary>
    /// Any <see cref="float"/>, so that the group's magnitude becomes <see cref="Float8E4M3.MaxValue"/>: the scale is m / 448, each element x
    /// becomes <see cref="Float8E4M3.FromSingle"/>(x × (448 / m)).
    /// </summary>
    Single = 1,

    /// <summary>
    /// A power of two as a <see cref="float"/>: the scale s is the least that is not below m / 448, each element x becomes
    /// <see cref="Float8E4M3.FromSingle"/>(x × (1 / s)).
    /// </summary>
    PowerOfTwo = 2,

    /// <summary>The same powers of two, packed: biased exponents, four to an <see cref="int"/>, as <see cref="Float8Scales"/> says.</summary>
    Packed = 3,
}

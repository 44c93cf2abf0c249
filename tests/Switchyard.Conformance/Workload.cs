using System.Runtime.InteropServices;
using Switchyard.Reference;

namespace Switchyard.Conformance;

/// <summary>Every rank's tokens for one call: the same on all ranks that draw from the same seed.</summary>
public static class Workload
{
    public static ReferenceTokens<T>[] Draw<T>(Random random, Shape shape)
        where T : unmanaged => Draw<T>(random, shape, shape.Hidden);

    /// <param name="random">Decides.</param>
    /// <param name="shape">The shape.</param>
    /// <param name="rowLength">Elements of a row, where that is not hidden.</param>
    public static ReferenceTokens<T>[] Draw<T>(Random random, Shape shape, int rowLength)
        where T : unmanaged =>
        [.. Enumerable.Range(0, shape.Ranks).Select(_ => DrawRank<T>(random, shape, TokensOf(random, shape), rowLength))];

    public static T[][] DrawRows<T>(Random random, int rows, int hidden)
        where T : unmanaged =>
        [.. Enumerable.Range(0, rows).Select(_ => Enumerable.Range(0, hidden).Select(_ => Element<T>(random)).ToArray())];

    /// <summary>Puts NaN or an infinity into some rows.</summary>
    public static void Spoil<T>(Random random, T[] row)
        where T : unmanaged
    {
        float[] odd = [float.NaN, -float.NaN, float.PositiveInfinity, float.NegativeInfinity];
        if (random.Next(4) == 0) row[random.Next(row.Length)] = Of<T>(odd[random.Next(odd.Length)]);
    }

    public static T[] Flat<T>(IEnumerable<T[]> rows) => [.. rows.SelectMany(row => row)];

    /// <summary>Fills memory with what no test produces: any of it that is left shows.</summary>
    public static T[] Poisoned<T>(int length)
        where T : unmanaged
    {
        var values = new T[length];
        MemoryMarshal.AsBytes(values.AsSpan()).Fill(0xA5);
        return values;
    }

    /// <summary>Values, then poison: in a fixed shape, rows that did not come have no results.</summary>
    public static T[] Lengthened<T>(T[] values, int length)
        where T : unmanaged
    {
        T[] whole = Poisoned<T>(length);
        values.CopyTo(whole, 0);
        return whole;
    }

    private static ReferenceTokens<T> DrawRank<T>(Random random, Shape shape, int tokens, int rowLength)
        where T : unmanaged => new(
            DrawRows<T>(random, tokens, rowLength),
            [.. Enumerable.Range(0, tokens).Select(_ => Choices(random, shape))],
            DrawWeights(random, tokens, shape.TopK));

    public static float[][] DrawWeights(Random random, int rows, int columns) =>
        [.. Enumerable.Range(0, rows).Select(_ => Enumerable.Range(0, columns).Select(_ => random.NextSingle() + 0.01f).ToArray())];

    private static int TokensOf(Random random, Shape shape) => random.Next(4) switch
    {
        0 => 0,
        1 => shape.MaxTokens,
        _ => random.Next(1, shape.MaxTokens + 1),
    };

    private static int[] Choices(Random random, Shape shape)
    {
        int[] experts = [.. Enumerable.Range(0, shape.Experts)];
        random.Shuffle(experts);
        int[] choices = experts[..shape.TopK];
        switch (shape.Routing)
        {
            case Routing.AllToOneExpert:
                Array.Fill(choices, -1);
                choices[shape.TopK / 2] = shape.Experts - 1;
                break;
            case Routing.NoChoices:
                Array.Fill(choices, -1);
                break;
            case Routing.SomeNone:
                for (int k = 0; k < choices.Length; k++)
                {
                    if (random.Next(3) == 0) choices[k] = -1;
                }
                break;
        }
        return choices;
    }

    /// <summary>Mostly ordinary numbers, some that round, overflow or vanish; never NaN, which equals nothing.</summary>
    private static T Element<T>(Random random)
        where T : unmanaged
    {
        float value = random.Next(20) switch
        {
            0 => 0,
            1 => -0f,
            2 => 1e-40f,
            3 => (typeof(T) == typeof(Half) ? 1e5f : 3e37f) * (random.NextSingle() - 0.5f),
            _ => (random.NextSingle() - 0.5f) * MathF.Pow(2, random.Next(-8, 9)),
        };
        return typeof(T) == typeof(byte) ? (T)(object)(byte)random.Next(256) : Of<T>(value);
    }

    private static T Of<T>(float value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(Half)) return (T)(object)(Half)value;
        return typeof(T) == typeof(BFloat16) ? (T)(object)BFloat16.FromSingle(value) : (T)(object)value;
    }
}

using System.Runtime.InteropServices;
using Switchyard.Reference;

namespace Switchyard.Conformance;

/// <summary>How random choices fall on experts.</summary>
public enum Routing
{
    Uniform,
    AllToOneExpert,
    NoChoices,
    SomeNone,
}

/// <summary>A shape to exercise.</summary>
public sealed record Shape(int Ranks, int Experts, int TopK, int Hidden, int MaxTokens, RowLayout Layout, int Alignment, Routing Routing)
{
    /// <summary>A random shape that leans towards the odd: prime hidden sizes, fewer experts than ranks, tiny batches.</summary>
    public static Shape Draw(Random random, int ranks)
    {
        int experts = Pick(random, 1, 2, 3, 5, 8, 16, 37);
        RowLayout layout = random.Next(2) == 0 ? RowLayout.RankMajor : RowLayout.ExpertMajor;
        return new Shape(
            ranks,
            experts,
            TopK: Math.Min(experts, Pick(random, 1, 2, 3, 6, 8)),
            Hidden: Pick(random, 1, 3, 7, 16, 31, 33, 64, 129, 1000),
            MaxTokens: Pick(random, 1, 2, 5, 17, 40),
            layout,
            Alignment: layout == RowLayout.ExpertMajor ? Pick(random, 1, 1, 2, 4, 7, 16) : 1,
            Pick(random, Routing.Uniform, Routing.Uniform, Routing.SomeNone, Routing.AllToOneExpert, Routing.NoChoices));
    }

    public ReferenceExchange Reference() => new(Ranks, Experts, Layout, Alignment);

    public DispatchOptions Options => new() { Layout = Layout, ExpertAlignment = Alignment };

    private static T Pick<T>(Random random, params T[] values) => values[random.Next(values.Length)];
}

/// <summary>Every rank's tokens for one call: the same on all ranks that draw from the same seed.</summary>
public static class Workload
{
    public static ReferenceTokens<T>[] Draw<T>(Random random, Shape shape)
        where T : unmanaged =>
        [.. Enumerable.Range(0, shape.Ranks).Select(_ => DrawRank<T>(random, shape, TokensOf(random, shape)))];

    public static T[][] DrawRows<T>(Random random, int rows, int hidden)
        where T : unmanaged =>
        [.. Enumerable.Range(0, rows).Select(_ => Enumerable.Range(0, hidden).Select(_ => Element<T>(random)).ToArray())];

    public static T[] Flat<T>(IEnumerable<T[]> rows) => [.. rows.SelectMany(row => row)];

    /// <summary>Fills memory with what no test produces: any of it that is left shows.</summary>
    public static T[] Poisoned<T>(int length)
        where T : unmanaged
    {
        var values = new T[length];
        MemoryMarshal.AsBytes(values.AsSpan()).Fill(0xA5);
        return values;
    }

    private static ReferenceTokens<T> DrawRank<T>(Random random, Shape shape, int tokens)
        where T : unmanaged => new(
            DrawRows<T>(random, tokens, shape.Hidden),
            [.. Enumerable.Range(0, tokens).Select(_ => Choices(random, shape))],
            [.. Enumerable.Range(0, tokens).Select(_ => Enumerable.Range(0, shape.TopK).Select(_ => random.NextSingle() + 0.01f).ToArray())]);

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
    {
        float value = random.Next(20) switch
        {
            0 => 0,
            1 => -0f,
            2 => 1e-40f,
            3 => 3e37f * (random.NextSingle() - 0.5f),
            _ => (random.NextSingle() - 0.5f) * MathF.Pow(2, random.Next(-8, 9)),
        };
        return typeof(T) == typeof(BFloat16) ? (T)(object)BFloat16.FromSingle(value) : (T)(object)value;
    }
}

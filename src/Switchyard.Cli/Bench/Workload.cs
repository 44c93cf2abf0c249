using System.Runtime.InteropServices;

namespace Switchyard.Cli.Bench;

/// <summary>
/// What every rank brings and what every rank must get, by the documented rules alone. Every rank draws the same from the same numbers,
/// so that each can check what it received.
/// </summary>
internal sealed class Workload
{
    private const ulong RowsPurpose = 1;
    private const ulong ChoicesPurpose = 2;
    private const ulong WeightsPurpose = 3;
    private const ulong ScalesPurpose = 4;

    private readonly int[] _rankOf;
    private readonly int[][] _choices;

    public Workload(Shape shape)
    {
        Shape = shape;
        Element = RowElement.Named(shape.Element);
        _rankOf = new int[shape.Experts];
        for (int rank = 0; rank < shape.Ranks; rank++)
            _rankOf.AsSpan(FirstExpertOf(rank)..FirstExpertOf(rank + 1)).Fill(rank);
        var routing = Routing.Named(shape.Routing, shape.Experts, shape.TopK);
        _choices = [.. Enumerable.Range(0, shape.Ranks).Select(rank => Choose(routing, rank))];
        Rows = CountRows();
    }

    public Shape Shape { get; }

    public RowElement Element { get; }

    /// <summary>Scales that a rank gives with a row.</summary>
    public int GivenScales => Element.ScalesOf(Shape.Hidden);

    /// <summary>Scales that arrive with a row.</summary>
    public int Scales => Element.Arriving.ScalesOf(Shape.Hidden);

    /// <summary>Rows by source rank, then by receiving rank.</summary>
    public int[][] Rows { get; }

    /// <summary>Rows that are given, of each token one.</summary>
    public long RowsGiven => (long)Shape.Ranks * Shape.Tokens;

    public long RowsReceived => Rows.Sum(bySource => bySource.Sum(each => (long)each));

    /// <summary>Bytes that a dispatch reads and writes in all, scales not counted.</summary>
    public long DispatchBytes => (RowsGiven * Shape.GivenRowBytes) + (RowsReceived * Shape.RowBytes);

    /// <summary>Bytes that a combine reads and writes in all.</summary>
    public long CombineBytes => (RowsGiven + RowsReceived) * Shape.ResultRowBytes;

    public int MostRowsReceived => Enumerable.Range(0, Shape.Ranks).Max(RowsReceivedBy);

    public int RowsReceivedBy(int rank) => Rows.Sum(bySource => bySource[rank]);

    /// <summary>A rank's tokens × top-k choices.</summary>
    public int[] ChoicesOf(int rank) => _choices[rank];

    public ReadOnlySpan<int> ChoicesOf(int rank, int token) => _choices[rank].AsSpan(token * Shape.TopK, Shape.TopK);

    public static void DrawWeights(int rank, int token, Span<float> weights)
    {
        var random = new SplitMix(WeightsPurpose, rank, token);
        foreach (ref float weight in weights)
            weight = (float)random.NextDouble();
    }

    public void DrawRow(int rank, int token, Span<byte> row)
    {
        var random = new SplitMix(RowsPurpose, rank, token);
        Element.Draw(ref random, row);
    }

    public static void DrawScales(int rank, int token, Span<byte> scales)
    {
        var random = new SplitMix(ScalesPurpose, rank, token);
        RowElement.Named("single").Draw(ref random, scales);
    }

    /// <summary>A row as it arrives, and its scales.</summary>
    public void DrawArriving(int rank, int token, Span<byte> row, Span<byte> scales)
    {
        if (Element.Quantize == Float8Scaling.None)
        {
            DrawRow(rank, token, row);
            DrawScales(rank, token, scales);
            return;
        }
        byte[] given = new byte[Shape.GivenRowBytes];
        DrawRow(rank, token, given);
        float[] values = new float[Shape.Hidden];
        Element.ToSingle(given, values);
        Quantize(values, row, MemoryMarshal.Cast<byte, float>(scales));
    }

    /// <summary>Rank r of R holds the experts [⌊rE/R⌋, ⌊(r+1)E/R⌋).</summary>
    public int FirstExpertOf(int rank) => (int)((long)rank * Shape.Experts / Shape.Ranks);

    /// <summary>The rank of an expert; -1 for no choice.</summary>
    public int RankOf(int expert) => expert < 0 ? -1 : _rankOf[expert];

    /// <summary>Where a token's rows go, in the order in which combine adds them: by rank, or by choice.</summary>
    public IEnumerable<Destination> DestinationsOf(int rank, int token)
    {
        int[] choices = ChoicesOf(rank, token).ToArray();
        if (Shape.Layout == RowLayout.ExpertMajor)
            return choices.Select((expert, k) => new Destination(RankOf(expert), expert, k)).Where(destination => destination.Rank >= 0);
        IEnumerable<int> receivers = choices.Select(RankOf).Where(receiver => receiver >= 0).Distinct().Order();
        return receivers.Select(receiver => new Destination(receiver, -1, -1));
    }

    private int[] Choose(Routing routing, int rank)
    {
        int[] choices = new int[Shape.Tokens * Shape.TopK];
        for (int token = 0; token < Shape.Tokens; token++)
        {
            var random = new SplitMix(ChoicesPurpose, rank, token);
            routing.Choose(ref random, ((long)rank * Shape.Tokens) + token, choices.AsSpan(token * Shape.TopK, Shape.TopK));
        }
        return choices;
    }

    /// <summary>As <see cref="Float8Scaling.Single"/> says of finite values.</summary>
    private static void Quantize(ReadOnlySpan<float> values, Span<byte> row, Span<float> scales)
    {
        for (int group = 0; group < scales.Length; group++)
        {
            int first = group * Float8Scales.GroupSize, end = Math.Min(values.Length, first + Float8Scales.GroupSize);
            float magnitude = 1e-4f;
            for (int i = first; i < end; i++) magnitude = Math.Max(magnitude, Math.Abs(values[i]));
            scales[group] = magnitude / Float8E4M3.MaxValue;
            float factor = Float8E4M3.MaxValue / magnitude;
            for (int i = first; i < end; i++) row[i] = Float8E4M3.FromSingle(values[i] * factor).Bits;
        }
    }

    private int[][] CountRows()
    {
        int[][] rows = [.. Enumerable.Range(0, Shape.Ranks).Select(_ => new int[Shape.Ranks])];
        for (int rank = 0; rank < Shape.Ranks; rank++)
        {
            for (int token = 0; token < Shape.Tokens; token++)
            {
                foreach (Destination destination in DestinationsOf(rank, token))
                    rows[rank][destination.Rank]++;
            }
        }
        return rows;
    }
}

/// <summary>One row of a token: the rank it goes to and, in expert-major, the expert and the choice that it stands for, else -1.</summary>
internal readonly record struct Destination(int Rank, int Expert, int Choice);

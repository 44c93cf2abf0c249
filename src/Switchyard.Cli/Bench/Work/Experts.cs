namespace Switchyard.Cli.Bench.Work;

/// <summary>
/// Stands in for the experts: multiplies each row by a factor that tells the experts (expert-major) or their ranks (rank-major) apart, so
/// that a sum shows which rows went into it and in which order.
/// </summary>
internal sealed class Experts(Workload workload)
{
    private readonly float[] _values = new float[workload.Shape.Hidden];

    /// <summary>Makes a received row's result; it may take the row's place. Scales are left out: they are checked by themselves.</summary>
    public void Apply(Destination destination, ReadOnlySpan<byte> row, Span<byte> result)
    {
        float factor = FactorOf(destination);
        workload.Element.Arriving.ToSingle(row, _values);
        for (int i = 0; i < _values.Length; i++)
            _values[i] *= factor;
        workload.Element.Result.FromSingle(_values, result);
    }

    private static float FactorOf(Destination destination) => 0.5f + (Math.Max(destination.Expert, destination.Rank) * 29 % 61 / 61f);
}

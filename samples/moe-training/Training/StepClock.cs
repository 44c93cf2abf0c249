using System.Diagnostics;

namespace MoeTraining;

/// <summary>What a step spends its time on, in the order of a step.</summary>
internal enum StepPhase
{
    Dense,
    Gate,
    Dispatch,
    Experts,
    Combine,
    DenseBackward,
    DispatchBackward,
    ExpertsBackward,
    CombineBackward,
    GateBackward,
    GradientSum,
    Optimizer,
}

/// <summary>Adds up where this rank's time went and what its dispatches and combines moved.</summary>
internal sealed class StepClock
{
    private static readonly int _phases = Enum.GetValues<StepPhase>().Length;

    /// <summary>Seconds by phase, then bytes moved and bytes that crossed ranks: one array, to be summed over the ranks at once.</summary>
    private readonly double[] _totals = new double[_phases + 2];

    public Measurement Measure(StepPhase phase) => new(this, phase);

    public void AddBytes(long moved, long crossed)
    {
        _totals[_phases] += moved;
        _totals[_phases + 1] += crossed;
    }

    /// <summary>The totals since the last call.</summary>
    public double[] Take()
    {
        double[] totals = [.. _totals];
        Array.Clear(_totals);
        return totals;
    }

    public static (double[] Seconds, long Moved, long Crossed) Split(double[] totals) =>
        (totals[.._phases], (long)totals[_phases], (long)totals[_phases + 1]);

    public readonly struct Measurement(StepClock clock, StepPhase phase) : IDisposable
    {
        private readonly long _start = Stopwatch.GetTimestamp();

        public void Dispose() => clock._totals[(int)phase] += Stopwatch.GetElapsedTime(_start).TotalSeconds;
    }
}

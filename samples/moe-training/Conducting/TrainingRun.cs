namespace MoeTraining;

/// <summary>What one run has told so far.</summary>
internal sealed class TrainingRun(int ranks, int steps)
{
    private readonly List<Progress> _reports = [];
    private readonly List<float> _losses = [];

    public int Ranks { get; } = ranks;

    public int Steps { get; } = steps;

    public string Name { get; } = ranks == 1 ? "1 rank" : $"{ranks} ranks";

    public IReadOnlyList<Progress> Reports => _reports;

    /// <summary>The loss of each step.</summary>
    public IReadOnlyList<float> Losses => _losses;

    public double Seconds { get; private set; }

    public long BytesMoved { get; private set; }

    public long BytesCrossed { get; private set; }

    public double TokensPerSecond => Seconds > 0 ? _reports.Sum(report => report.Tokens) / Seconds : 0;

    /// <summary>The mean loss of the last steps.</summary>
    public float LastLoss => _reports.Count == 0 ? float.NaN : _reports[^1].Losses.Average();

    public void Add(Progress report)
    {
        _reports.Add(report);
        _losses.AddRange(report.Losses);
        Seconds += report.Seconds;
        BytesMoved += report.BytesMoved;
        BytesCrossed += report.BytesCrossed;
    }

    /// <summary>Milliseconds a step by phase; the first half of the run, with its compilation, left out.</summary>
    public double[] PhaseMilliseconds()
    {
        double[] sums = new double[Enum.GetValues<StepPhase>().Length];
        Progress[] later = [.. _reports.Skip(_reports.Count / 2)];
        int steps = later.Sum(report => report.Losses.Length);
        foreach (Progress report in later)
            for (int phase = 0; phase < sums.Length; phase++) sums[phase] += 1000 * report.PhaseSeconds[phase] / steps;
        return sums;
    }
}

namespace Switchyard.Cli.Bench.Report;

/// <summary>A measured pair of devices, a row of its own in the result file.</summary>
internal sealed record LinkMeasurement
{
    public string Backend { get; } = Names.Cuda;
    public string Mode { get; } = "link";
    public required IReadOnlyList<int> Devices { get; init; }

    /// <summary>Of one copy.</summary>
    public required long Bytes { get; init; }

    /// <summary>Whether samples of what was copied are right.</summary>
    public required bool Verified { get; init; }

    /// <summary>Bytes that went from the first to the second, a second.</summary>
    public required double OneWayGBps { get; init; }

    /// <summary>The same in each direction, while copies go both ways.</summary>
    public required double BothWaysGBps { get; init; }

    public required string Device { get; init; }
    public required string Driver { get; init; }
    public string? Commit { get; } = Machine.Commit;
}

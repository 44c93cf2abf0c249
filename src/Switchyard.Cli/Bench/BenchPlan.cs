namespace Switchyard.Cli.Bench;

/// <summary>What was asked for, checked.</summary>
internal sealed record BenchPlan
{
    public required IReadOnlyList<Shape> Shapes { get; init; }
    public required int Repetitions { get; init; }
    public required int Warmup { get; init; }

    /// <summary>Runs in turn with the peer; null without one.</summary>
    public required int? Pairs { get; init; }

    public required string? JsonFile { get; init; }

    /// <summary>The GPUs that any shape uses; none where the CPU moves the rows.</summary>
    public IReadOnlyList<int> UsedDevices => Shapes[0].Devices is null ? [] : [.. Shapes.SelectMany(shape => shape.UsedDevices).Distinct()];
}

namespace Switchyard.Cli.Bench.Work;

/// <summary>What a rank got, where the host can read it.</summary>
internal readonly ref struct Received
{
    /// <summary>The rows that came. In a fixed shape there is room for more behind them.</summary>
    public required int RowCount { get; init; }

    public required TensorView Rows { get; init; }

    public required TensorView Scales { get; init; }

    public required ReadOnlySpan<RowSource> Sources { get; init; }

    public required ReadOnlySpan<int> TopkIndices { get; init; }

    public required ReadOnlySpan<float> TopkWeights { get; init; }

    public required ReadOnlySpan<int> TokensPerExpert { get; init; }

    /// <summary>Empty in a fixed shape, which does not tell it.</summary>
    public required ReadOnlySpan<int> RowsPerSource { get; init; }

    /// <summary>What lies in memory of the host already.</summary>
    public static Received Of(in Dispatched received) => new()
    {
        RowCount = received.RowCount,
        Rows = received.Rows,
        Scales = received.Scales,
        Sources = received.Sources,
        TopkIndices = received.TopkIndices,
        TopkWeights = received.TopkWeights,
        TokensPerExpert = received.TokensPerExpert,
        RowsPerSource = received.RowsPerSource,
    };
}

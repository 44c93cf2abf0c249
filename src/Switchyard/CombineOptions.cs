namespace Switchyard;

/// <summary>Options of one combine. What is absent is not done. Weights are brought back on all ranks or on none; the rest is each rank's own.</summary>
public readonly ref struct CombineOptions
{
    /// <summary>Tokens × hidden of the buffer's element: added to the sum, after all contributions.</summary>
    public ReadOnlyTensorView Bias { get; init; }

    /// <summary>As <see cref="Bias"/>, added after it.</summary>
    public ReadOnlyTensorView SecondBias { get; init; }

    /// <summary>
    /// Tokens × top-k, single: each contribution is multiplied by the weight of its choice before it is added (in single precision, the product
    /// rounded by itself). Expert-major only, and not with <see cref="DispatchOptions.PreReduce"/>. Absent: contributions are added as they are.
    /// </summary>
    public ReadOnlyTensorView ChoiceWeights { get; init; }

    /// <summary>
    /// Per received row and column, single, as <see cref="Dispatched.TopkWeights"/>: brought back to the tokens' choices in
    /// <see cref="ReducedWeights"/>. Gradients of weights need it. Copied to the arena.
    /// </summary>
    public ReadOnlyTensorView RowWeights { get; init; }

    /// <summary>
    /// Receives tokens × top-k, single: for each choice the sum of what the rows that stand for it carry; 0 where a token chose nothing. Given
    /// together with <see cref="RowWeights"/>; not in the arena.
    /// </summary>
    public TensorView ReducedWeights { get; init; }

    /// <summary>Where the call's work stands among that of a device.</summary>
    public DeviceOptions Device { get; init; }
}

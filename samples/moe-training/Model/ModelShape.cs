namespace MoeTraining;

/// <summary>The sizes of the model and of a step. Hidden sizes, experts and the sequence length are multiples of 16.</summary>
internal sealed record ModelShape
{
    public int Vocabulary { get; init; } = 256;

    public int SequenceLength { get; init; } = 64;

    public int Hidden { get; init; } = 64;

    public int Blocks { get; init; } = 2;

    public int Experts { get; init; } = 16;

    public int TopK { get; init; } = 2;

    public int ExpertHidden { get; init; } = 128;

    /// <summary>
    /// A step's sequences are cut into this many shards, whatever the number of ranks. A shard is computed by one rank, and the
    /// shards' gradients are added in the shards' order: that makes the sum independent of who computed what.
    /// </summary>
    public int Shards { get; init; } = 4;

    public int SequencesPerShard { get; init; } = 4;

    /// <summary>How much an uneven load of the experts costs, beside the loss.</summary>
    public float BalanceWeight { get; init; } = 0.1f;

    public int TokensPerShard => SequencesPerShard * SequenceLength;

    public int TokensPerStep => Shards * TokensPerShard;
}

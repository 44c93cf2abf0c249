namespace MoeTraining;

/// <summary>A share of a step's sequences: some of this rank's tokens, and their gradient of the parameters that all ranks hold.</summary>
/// <param name="index">The shard's index in the step, over all ranks.</param>
/// <param name="firstToken">Its first token among this rank's tokens.</param>
/// <param name="tokens">Its number of tokens.</param>
/// <param name="gradientLength">See <see cref="DenseLayout.GradientLength"/>.</param>
internal sealed class Shard(int index, int firstToken, int tokens, int gradientLength)
{
    public int Index { get; } = index;

    public int Tokens { get; } = tokens;

    public float[] Gradient { get; } = new float[gradientLength];

    public int FirstSequence(int sequenceLength) => firstToken / sequenceLength;

    /// <summary>This shard's part of an array that holds a row for each of the rank's tokens.</summary>
    public Matrix Of(float[] values, int columns) => new(Part(values, columns), columns);

    public Span<T> Part<T>(T[] values, int columns = 1) => values.AsSpan(firstToken * columns, Tokens * columns);
}

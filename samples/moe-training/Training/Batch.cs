namespace MoeTraining;

/// <summary>A step's sequences of the corpus: drawn alike on every rank, copied where the rank computes them.</summary>
internal sealed class Batch(ModelShape shape, byte[] corpus)
{
    private readonly byte[] _bytes = new byte[shape.TokensPerStep];
    private readonly byte[] _next = new byte[shape.TokensPerStep];

    public void Draw(int step)
    {
        var random = new Random(step);
        for (int first = 0; first < _bytes.Length; first += shape.SequenceLength)
        {
            int start = random.Next(corpus.Length - shape.SequenceLength);
            corpus.AsSpan(start, shape.SequenceLength).CopyTo(_bytes.AsSpan(first));
            corpus.AsSpan(start + 1, shape.SequenceLength).CopyTo(_next.AsSpan(first));
        }
    }

    public ReadOnlySpan<byte> Bytes(Shard shard) => _bytes.AsSpan(shard.Index * shape.TokensPerShard, shape.TokensPerShard);

    public ReadOnlySpan<byte> Next(Shard shard) => _next.AsSpan(shard.Index * shape.TokensPerShard, shape.TokensPerShard);
}

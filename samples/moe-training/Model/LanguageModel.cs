using System.Numerics.Tensors;
using Switchyard;

namespace MoeTraining;

/// <summary>
/// A small causal language model over bytes: embedding, then blocks of attention and experts, then the prediction of each next byte.
/// This rank computes its shards; its experts also serve the other ranks' tokens.
/// </summary>
internal sealed class LanguageModel
{
    private readonly ModelShape _shape;
    private readonly Vocabulary _vocabulary;
    private readonly Attention[] _attention;
    private readonly Gate[] _gates;
    private readonly BlockState[] _states;
    private readonly float[] _x;
    private readonly float[] _moeOutput;
    private readonly float[] _dMoeInput;
    private readonly float[] _dWeights;
    private readonly ParallelOptions _parallel;
    private readonly StepClock _clock;

    public LanguageModel(ModelShape shape, ExpertBuffer buffer, StepClock clock, int threads)
    {
        (int rank, int ranks) = (buffer.Group.Rank, buffer.Group.Size);
        (int firstShard, int endShard) = (rank * shape.Shards / ranks, (rank + 1) * shape.Shards / ranks);
        int tokens = (endShard - firstShard) * shape.TokensPerShard;
        _shape = shape;
        _clock = clock;
        _parallel = new ParallelOptions { MaxDegreeOfParallelism = threads };
        Layout = new DenseLayout(shape);
        Parameters = InitialParameters(shape, Layout);
        Shards = [.. Enumerable.Range(firstShard, endShard - firstShard).Select(index =>
            new Shard(index, (index - firstShard) * shape.TokensPerShard, shape.TokensPerShard, Layout.GradientLength))];

        _vocabulary = new Vocabulary(shape, Layout);
        int[] blocks = [.. Enumerable.Range(0, shape.Blocks)];
        _attention = [.. blocks.Select(block => new Attention(shape, Layout, block))];
        _gates = [.. blocks.Select(block => new Gate(shape, Layout, block))];
        int[] experts = buffer.LocalExperts.ToArray();
        MoeLayers = [.. blocks.Select(block => new MoeLayer(shape, buffer, new Experts(shape, block, experts, _parallel), clock))];

        _states = [.. blocks.Select(_ => new BlockState(shape, tokens))];
        _x = new float[tokens * shape.Hidden];
        _moeOutput = new float[tokens * shape.Hidden];
        _dMoeInput = new float[tokens * shape.Hidden];
        _dWeights = new float[tokens * shape.TopK];
    }

    public DenseLayout Layout { get; }

    /// <summary>What all ranks hold alike; each expert's parameters are only where the expert is.</summary>
    public float[] Parameters { get; }

    public Shard[] Shards { get; }

    public MoeLayer[] MoeLayers { get; }

    /// <summary>Leaves each shard's gradient and loss in the shard, and each expert's gradient with the expert.</summary>
    public void ForwardBackward(Batch batch)
    {
        using (_clock.Measure(StepPhase.Dense)) EachShard(shard => Begin(shard, batch));
        for (int block = 0; block < _shape.Blocks; block++) Forward(block);
        using (_clock.Measure(StepPhase.DenseBackward)) EachShard(shard => _vocabulary.Predict(Parameters, batch.Next(shard), shard, X(shard)));
        for (int block = _shape.Blocks - 1; block >= 0; block--) Backward(block);
        using (_clock.Measure(StepPhase.DenseBackward)) EachShard(shard => _vocabulary.EmbedBackward(batch.Bytes(shard), X(shard), shard.Gradient));
    }

    private void Begin(Shard shard, Batch batch)
    {
        shard.Gradient.AsSpan().Clear();
        _vocabulary.Embed(Parameters, batch.Bytes(shard), X(shard));
    }

    private void Forward(int block)
    {
        BlockState state = _states[block];
        using (_clock.Measure(StepPhase.Dense)) EachShard(shard => _attention[block].Forward(Parameters, state, shard, X(shard)));
        using (_clock.Measure(StepPhase.Gate)) EachShard(shard => _gates[block].Forward(Parameters, state, shard, X(shard)));
        MoeLayers[block].Forward(state, _moeOutput);
        TensorPrimitives.Add(_x, _moeOutput, _x);
    }

    /// <summary>From here on <see cref="_x"/> holds gradients.</summary>
    private void Backward(int block)
    {
        BlockState state = _states[block];
        MoeLayers[block].Backward(state, _x, _dMoeInput, _dWeights);
        using (_clock.Measure(StepPhase.GateBackward))
            EachShard(shard => _gates[block].Backward(Parameters, state, shard, _dWeights, shard.Of(_dMoeInput, _shape.Hidden), X(shard)));
        using (_clock.Measure(StepPhase.DenseBackward))
            EachShard(shard => _attention[block].Backward(Parameters, state, shard, X(shard)));
    }

    private void EachShard(Action<Shard> action) => Parallel.ForEach(Shards, _parallel, action);

    private Matrix X(Shard shard) => shard.Of(_x, _shape.Hidden);

    private static float[] InitialParameters(ModelShape shape, DenseLayout layout)
    {
        var random = new Random(1);
        float[] parameters = new float[layout.Count];
        Initial.Fill(random, parameters, 1 / MathF.Sqrt(shape.Hidden));
        Initial.Fill(random, layout.Embedding(parameters).Values, 0.05f);
        Initial.Fill(random, layout.Position(parameters).Values, 0.05f);
        return parameters;
    }
}

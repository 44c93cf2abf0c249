using System.Numerics.Tensors;

namespace MoeTraining;

/// <summary>
/// Chooses each token's experts: the top-k of p = softmax(n·gate) for the normalized n = x/rms(x), weighted by wⱼ = pⱼ / Σₖ pₖ
/// over the chosen. A sequence whose load f (share of its choices) and mean p agree on few experts pays E·Σₑ fₑ·mean(pₑ).
/// </summary>
internal sealed class Gate(ModelShape shape, DenseLayout layout, int block)
{
    public void Forward(float[] parameters, BlockState state, Shard shard, Matrix x)
    {
        Matrix input = shard.Of(state.MoeInput, shape.Hidden), p = shard.Of(state.GateProbabilities, shape.Experts);
        Span<int> choices = shard.Part(state.Choices, shape.TopK);
        Span<float> weights = shard.Part(state.Weights, shape.TopK);

        Functions.Normalize(x, input, shard.Part(state.MoeInverseRms));
        MatrixProduct.Multiply(input, layout.Gate(parameters, block), p);
        for (int token = 0; token < p.Rows; token++)
        {
            Functions.Softmax(p[token]);
            Choose(p[token], choices.Slice(token * shape.TopK, shape.TopK), weights.Slice(token * shape.TopK, shape.TopK));
        }
        MeasureLoad(state, shard, choices, p);
    }

    public void Backward(float[] parameters, BlockState state, Shard shard, float[] weightGradients, Matrix dInput, Matrix dx)
    {
        Matrix input = shard.Of(state.MoeInput, shape.Hidden), p = shard.Of(state.GateProbabilities, shape.Experts);
        Matrix dLogits = new(new float[p.Values.Length], shape.Experts);
        Span<int> choices = shard.Part(state.Choices, shape.TopK);
        Span<float> weights = shard.Part(state.Weights, shape.TopK), dWeights = shard.Part(weightGradients, shape.TopK);

        for (int token = 0; token < p.Rows; token++)
        {
            AddBalanceGradient(p[token], LoadOf(state, shard, token / shape.SequenceLength), dLogits[token]);
            // The weights are a softmax over the chosen experts' logits.
            Span<float> gradient = dWeights.Slice(token * shape.TopK, shape.TopK);
            Functions.SoftmaxGradient(weights.Slice(token * shape.TopK, shape.TopK), gradient);
            for (int j = 0; j < shape.TopK; j++) dLogits[token][choices[token * shape.TopK + j]] += gradient[j];
        }
        MatrixProduct.AddTransposedMultiply(input, dLogits, layout.Gate(shard.Gradient, block));
        MatrixProduct.AddMultiplyTransposed(dLogits, layout.Gate(parameters, block), dInput);
        Functions.AddNormalizeGradient(dInput, input, shard.Part(state.MoeInverseRms), dx);
    }

    private static void Choose(ReadOnlySpan<float> p, Span<int> choices, Span<float> weights)
    {
        for (int j = 0; j < choices.Length; j++)
        {
            int best = -1;
            for (int expert = 0; expert < p.Length; expert++)
            {
                if ((best < 0 || p[expert] > p[best]) && !choices[..j].Contains(expert)) best = expert;
            }
            choices[j] = best;
            weights[j] = p[best];
        }
        TensorPrimitives.Multiply(weights, 1 / Sums.Sum(weights), weights);
    }

    private void MeasureLoad(BlockState state, Shard shard, ReadOnlySpan<int> choices, Matrix p)
    {
        Span<float> meanP = stackalloc float[shape.Experts];
        int choicesPerSequence = shape.SequenceLength * shape.TopK;
        for (int sequence = 0; sequence < shape.SequencesPerShard; sequence++)
        {
            Span<float> load = LoadOf(state, shard, sequence);
            load.Clear();
            foreach (int expert in choices.Slice(sequence * choicesPerSequence, choicesPerSequence)) load[expert]++;
            TensorPrimitives.Add(layout.Load(shard.Gradient, block), load, layout.Load(shard.Gradient, block));
            TensorPrimitives.Multiply(load, 1f / choicesPerSequence, load);
            meanP.Clear();
            for (int t = 0; t < shape.SequenceLength; t++) TensorPrimitives.Add(meanP, p[sequence * shape.SequenceLength + t], meanP);
            layout.Balance(shard.Gradient) +=
                shape.Experts * Sums.Dot(load, meanP) / (shape.TokensPerStep * shape.Blocks);
        }
    }

    private void AddBalanceGradient(ReadOnlySpan<float> p, ReadOnlySpan<float> load, Span<float> dLogits)
    {
        load.CopyTo(dLogits);
        Functions.SoftmaxGradient(p, dLogits);
        TensorPrimitives.Multiply(dLogits, shape.BalanceWeight * shape.Experts / (shape.TokensPerStep * shape.Blocks), dLogits);
    }

    private Span<float> LoadOf(BlockState state, Shard shard, int sequence) =>
        state.Load.AsSpan((shard.FirstSequence(shape.SequenceLength) + sequence) * shape.Experts, shape.Experts);
}

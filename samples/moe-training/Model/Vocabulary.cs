using System.Numerics.Tensors;

namespace MoeTraining;

/// <summary>Both ends of the model: bytes become vectors, and vectors predict the next byte by the same embedding.</summary>
internal sealed class Vocabulary(ModelShape shape, DenseLayout layout)
{
    public void Embed(float[] parameters, ReadOnlySpan<byte> bytes, Matrix x)
    {
        Matrix embedding = layout.Embedding(parameters), position = layout.Position(parameters);
        for (int token = 0; token < x.Rows; token++)
            TensorPrimitives.Add(embedding[bytes[token]], position[token % shape.SequenceLength], x[token]);
    }

    public void EmbedBackward(ReadOnlySpan<byte> bytes, Matrix dx, float[] gradient)
    {
        Matrix embedding = layout.Embedding(gradient), position = layout.Position(gradient);
        for (int token = 0; token < dx.Rows; token++)
        {
            TensorPrimitives.Add(embedding[bytes[token]], dx[token], embedding[bytes[token]]);
            Span<float> place = position[token % shape.SequenceLength];
            TensorPrimitives.Add(place, dx[token], place);
        }
    }

    /// <summary>Adds the shard's part of the mean cross-entropy and its gradients; x becomes its own gradient.</summary>
    public void Predict(float[] parameters, ReadOnlySpan<byte> next, Shard shard, Matrix x)
    {
        Matrix embedding = layout.Embedding(parameters);
        Matrix input = new(new float[x.Values.Length], x.Columns), dInput = new(new float[x.Values.Length], x.Columns);
        Matrix p = new(new float[x.Rows * shape.Vocabulary], shape.Vocabulary);
        float[] inverseRms = new float[x.Rows];

        Functions.Normalize(x, input, inverseRms);
        MatrixProduct.MultiplyTransposed(input, embedding, p);
        for (int token = 0; token < x.Rows; token++)
        {
            float logit = p[token][next[token]];
            layout.Loss(shard.Gradient) += (Functions.Softmax(p[token]) - logit) / shape.TokensPerStep;
            p[token][next[token]] -= 1;
        }
        TensorPrimitives.Multiply(p.Values, 1f / shape.TokensPerStep, p.Values);

        MatrixProduct.AddTransposedMultiply(p, input, layout.Embedding(shard.Gradient));
        MatrixProduct.Multiply(p, embedding, dInput);
        x.Values.Clear();
        Functions.AddNormalizeGradient(dInput, input, inverseRms, x);
    }
}

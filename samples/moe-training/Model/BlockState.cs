using Switchyard;

namespace MoeTraining;

/// <summary>What a block's forward pass leaves behind for its backward pass: a row for each of the rank's tokens.</summary>
internal sealed class BlockState(ModelShape shape, int tokens)
{
    public float[] AttentionInput { get; } = new float[tokens * shape.Hidden];

    public float[] AttentionInverseRms { get; } = new float[tokens];

    public float[] Queries { get; } = new float[tokens * shape.Hidden];

    public float[] Keys { get; } = new float[tokens * shape.Hidden];

    public float[] Values { get; } = new float[tokens * shape.Hidden];

    /// <summary>How much each token attends to each token of its sequence.</summary>
    public float[] Attention { get; } = new float[tokens * shape.SequenceLength];

    public float[] Mixed { get; } = new float[tokens * shape.Hidden];

    public float[] MoeInput { get; } = new float[tokens * shape.Hidden];

    public float[] MoeInverseRms { get; } = new float[tokens];

    public float[] GateProbabilities { get; } = new float[tokens * shape.Experts];

    public int[] Choices { get; } = new int[tokens * shape.TopK];

    public float[] Weights { get; } = new float[tokens * shape.TopK];

    /// <summary>The share of each sequence's choices that fell on each expert.</summary>
    public float[] Load { get; } = new float[tokens / shape.SequenceLength * shape.Experts];

    /// <summary>The rows that this rank's experts received; alive from the forward to the end of the backward pass.</summary>
    public Dispatched Received { get; set; }

    /// <summary>The experts' activations, a row for each received row.</summary>
    public float[] Activations { get; set; } = [];
}

using Switchyard;

namespace MoeTraining;

/// <summary>
/// A block's experts, wherever they are: tokens travel to them by dispatch and their results come back by combine. Backward the
/// same plan serves the other way round: the gradient of a combine is a dispatch, the gradient of a dispatch is a combine.
/// </summary>
internal sealed class MoeLayer(ModelShape shape, ExpertBuffer buffer, Experts experts, StepClock clock)
{
    public Experts Experts { get; } = experts;

    /// <summary>Sends the tokens to their experts and leaves the weighted sums of the results in <paramref name="output"/>.</summary>
    public void Forward(BlockState state, float[] output)
    {
        using (clock.Measure(StepPhase.Dispatch))
        {
            var options = new DispatchOptions { Layout = RowLayout.ExpertMajor };
            state.Received = buffer.Dispatch(state.MoeInput, state.Choices, state.Weights, options);
        }
        using (clock.Measure(StepPhase.Experts)) Experts.Forward(state);
        using (clock.Measure(StepPhase.Combine)) buffer.Combine(state.Received.ResultRows, state.Received.Handle, output);
        CountRows(state.Received);
    }

    /// <summary>From the gradient of the output: the gradients of the input and of the gate's weights, and of the experts' parameters.</summary>
    public void Backward(BlockState state, float[] dOutput, float[] dInput, float[] dWeights)
    {
        Dispatched gradients;
        using (clock.Measure(StepPhase.DispatchBackward)) gradients = buffer.Dispatch(dOutput, state.Received.Handle);
        using (gradients)
        using (state.Received)
        {
            float[] dRowWeights = new float[state.Received.RowCount];
            using (clock.Measure(StepPhase.ExpertsBackward)) Experts.Backward(state, gradients, dRowWeights);
            using (clock.Measure(StepPhase.CombineBackward))
                buffer.Combine(gradients.ResultRows, state.Received.Handle, dInput, new() { RowWeights = dRowWeights, ReducedWeights = dWeights });
            CountRows(state.Received);
        }
    }

    /// <summary>A row goes to its expert and one comes back.</summary>
    private void CountRows(Dispatched received)
    {
        int rows = received.RowCount, own = received.RowsPerSource[buffer.Group.Rank];
        clock.AddBytes(2L * rows * shape.Hidden * sizeof(float), 2L * (rows - own) * shape.Hidden * sizeof(float));
    }
}

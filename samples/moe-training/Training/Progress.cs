using System.Text.Json.Serialization;

namespace MoeTraining;

/// <summary>What rank 0 tells the conductor, a line of JSON every few steps: sums over all ranks since the last line.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="Losses">The loss of each step since the last line.</param>
/// <param name="Balance">The mean evenness of the load; 1 is even.</param>
/// <param name="Load">Choices by block and expert.</param>
/// <param name="PhaseSeconds">Seconds by <see cref="StepPhase"/>, the mean of the ranks.</param>
/// <param name="Tokens">Tokens trained on.</param>
/// <param name="Seconds">Wall time.</param>
/// <param name="BytesMoved">Payload of all dispatches and combines.</param>
/// <param name="BytesCrossed">The part of it that went from one rank to another.</param>
internal sealed record Progress(
    int Step, float[] Losses, float Balance, int[][] Load, double[] PhaseSeconds, long Tokens, double Seconds, long BytesMoved, long BytesCrossed);

[JsonSerializable(typeof(Progress))]
internal sealed partial class ProgressJson : JsonSerializerContext;

namespace MoeTraining;

/// <summary>Why the demo cannot go on, in words for its user.</summary>
internal sealed class DemoException(string message) : Exception(message);

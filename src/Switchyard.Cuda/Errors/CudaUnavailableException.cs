namespace Switchyard.Cuda;

/// <summary>CUDA cannot be used here: no driver, one that is too old, or no device that can do what is needed.</summary>
/// <param name="message">What is missing and what is needed.</param>
/// <param name="inner">The cause, where there is one.</param>
public sealed class CudaUnavailableException(string message, Exception? inner = null) : SwitchyardException(message, Recovery.Rebuild, inner);

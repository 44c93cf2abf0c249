namespace Switchyard.Cuda;

/// <summary>
/// A call of the CUDA driver failed. Errors of a kernel (such as an illegal address) break the device's context for the whole process. One that says
/// that a stream cannot be captured so (<see cref="Recovery.CallAgain"/>) leaves the buffer as it was: the call was not made.
/// </summary>
/// <param name="code">The driver's number.</param>
/// <param name="name">The driver's name for it, such as CUDA_ERROR_OUT_OF_MEMORY.</param>
/// <param name="call">The driver's function that returned it.</param>
/// <param name="detail">What the driver says of it, and what it was asked for.</param>
public sealed class CudaException(int code, string name, string call, string detail)
    : SwitchyardException($"{call} returned {name} ({code}): {detail}.", IsOfCapture(code) ? Recovery.CallAgain : Recovery.Rebuild)
{
    /// <summary>The driver's number of the error, a CUresult.</summary>
    public int Code { get; } = code;

    /// <summary>The driver's name for it.</summary>
    public string Name { get; } = name;

    /// <summary>The driver's function that returned it; of an error in a kernel, the first call that saw it.</summary>
    public string Call { get; } = call;

    internal bool IsOutOfMemory => Code == 2; // CUDA_ERROR_OUT_OF_MEMORY

    private static bool IsOfCapture(int code) => code is >= 900 and <= 908; // CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED to _WRONG_THREAD
}

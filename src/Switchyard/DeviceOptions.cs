namespace Switchyard;

/// <summary>
/// Where a call's work stands among that of a device. For buffers of a device's backend; others take the default alone. Streams and events are
/// known by their handles (CUstream, CUevent, which are also cudaStream_t and cudaEvent_t) and stay their owner's.
/// </summary>
/// <remarks>
/// With no <see cref="Stream"/> a call runs on the buffer's own stream and returns when its work is done, as on the host: what it reads must be
/// written by then. With one it returns at once: its work comes after what the stream holds, and before what is enqueued there afterwards. If the call
/// is then refused (<see cref="CapacityException"/>, <see cref="RoutingException"/>), it brings nothing, and neither does any that was enqueued behind
/// it before this rank was told, which the next call does by throwing, once, instead of being made: all ranks go on from the refused call
/// (<see cref="CapacityException.CallsBehind"/>).
/// </remarks>
public readonly record struct DeviceOptions
{
    /// <summary>
    /// The caller's stream; null to wait for the call's work. 0 is the device's default stream; ranks that share a process and a device need a
    /// stream each.
    /// </summary>
    public nint? Stream { get; init; }

    /// <summary>
    /// With a <see cref="Stream"/>: the work runs on the buffer's communication stream beside what is enqueued afterwards, after what the stream
    /// holds now or, if it is given, <see cref="WaitEvent"/> alone. <see cref="SignalEvent"/> tells when it is done.
    /// </summary>
    public bool Overlap { get; init; }

    /// <summary>An event that the work waits for; 0 for none.</summary>
    public nint WaitEvent { get; init; }

    /// <summary>An event that is recorded behind the work; 0 for none.</summary>
    public nint SignalEvent { get; init; }

    /// <summary>Multiprocessors that the work takes; 0 for the buffer's (<see cref="ExpertBufferOptions.Multiprocessors"/>).</summary>
    public int Multiprocessors { get; init; }
}

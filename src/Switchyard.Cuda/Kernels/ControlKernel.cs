using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Kernels;

/// <summary>control.cu: small steps beside the calls.</summary>
internal sealed class ControlKernel
{
    public const string Module = "control";
    public const string AwaitDoneName = "await_done";
    public const string CloseName = "close";

    private static readonly LaunchShape _aWarp = new(1, 32);
    private static readonly LaunchShape _aThreadARank = new(1, Limits.MaxRanks);
    private readonly CudaFunction _awaitDone;
    private readonly CudaFunction _close;

    internal ControlKernel(CudaModule module)
    {
        _awaitDone = module.GetFunction(AwaitDoneName);
        _close = module.GetFunction(CloseName);
    }

    /// <summary>As <see cref="KernelSet.WarmUp"/>.</summary>
    public void WarmUp(CudaStream stream, in ExchangeArgs idle)
    {
        AwaitDone(stream, idle);
        Close(stream, idle);
    }

    /// <summary>Enqueues a wait until all readers of the last combine are done.</summary>
    public void AwaitDone(CudaStream stream, in ExchangeArgs exchange) => _awaitDone.Launch(_aWarp, stream, exchange);

    /// <summary>Enqueues telling all ranks that this one makes no more calls.</summary>
    public void Close(CudaStream stream, in ExchangeArgs exchange) => _close.Launch(_aThreadARank, stream, exchange);
}

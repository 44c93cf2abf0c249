using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;
using Switchyard.Transports;

namespace Switchyard.Cuda;

/// <summary>
/// Ranks on NVIDIA GPUs of one machine: arenas in device memory that the devices access directly, rows moved by kernels. Ranks may share a device.
/// Needs the driver alone.
/// </summary>
/// <remarks>
/// Tensors are memory of the rank's device (<see cref="TensorView.FromPointer"/> with its number); rows, and their strides, are multiples of 16
/// bytes. <see cref="DeviceOptions"/> say on which stream a call runs.
/// </remarks>
public sealed class CudaBackend : ExpertBackend
{
    private CudaBackend(int device)
        : base("cuda")
    {
        Device = device;
        ScaleUp = new CudaTransport(device);
    }

    /// <summary>The backend of ranks on a device.</summary>
    /// <param name="device">Its number among the visible ones (CUDA_VISIBLE_DEVICES), from 0.</param>
    /// <exception cref="CudaUnavailableException">There is no driver, or the device cannot run the kernels.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such device.</exception>
    public static CudaBackend For(int device)
    {
        KernelSet.RequireCapability(CudaDevice.Get(device));
        return new CudaBackend(device);
    }

    internal override int Device { get; }

    internal override IScaleUpTransport ScaleUp { get; }
}

using Switchyard.Cuda;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>The GPUs of this machine, looked at before ranks are started on them.</summary>
internal static class Gpus
{
    /// <summary>The devices that were asked for, or all that are visible; all can run the kernels.</summary>
    /// <exception cref="UsageException">There is no driver or no such device, or one is too old.</exception>
    public static int[] Require(IReadOnlyList<int>? asked)
    {
        try
        {
            int[] devices = [.. asked ?? [.. Enumerable.Range(0, CudaDevice.Count)]];
            if (devices.Length == 0) throw new UsageException("--backend cuda: no device is visible (CUDA_VISIBLE_DEVICES).");
            foreach (int device in devices) _ = CudaBackend.For(device);
            return devices;
        }
        catch (CudaUnavailableException missing)
        {
            throw new UsageException($"--backend cuda: {missing.Message}");
        }
        catch (ArgumentOutOfRangeException)
        {
            throw new UsageException($"--devices is {string.Join(',', asked!)}: {CudaDevice.Count} are visible (CUDA_VISIBLE_DEVICES), counted from 0.");
        }
    }

    /// <summary>Refuses more multiprocessors than a rank can have.</summary>
    public static void RequireMultiprocessors(Shape shape)
    {
        if (shape.Sms is not { } sms) return;
        int most = shape.UsedDevices.Min(device => CudaDevice.Get(device).MultiprocessorCount) / shape.RanksPerDevice;
        if (sms > most)
            throw new UsageException($"--sms is {sms}: where {shape.RanksPerDevice} of {shape.Ranks} ranks share a device, a rank can have at most {most}.");
    }
}

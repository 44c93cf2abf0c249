using System.Runtime.InteropServices;
using Switchyard.Cuda.Interop;
using Switchyard.Interop;

namespace Switchyard.Cuda.Driver;

/// <summary>The driver itself: found and started once a process, at first use.</summary>
internal static unsafe class CudaDriver
{
    /// <summary>CUDA 12.3, the first whose driver compiles PTX 8.3.</summary>
    public const int MinimumVersion = 12030;

    private static readonly Lazy<int> _version = new(() => Start(LibCuda.Library, MinimumVersion));

    /// <summary>The newest CUDA that the driver can serve, as 1000 × major + 10 × minor.</summary>
    public static int Version => _version.Value;

    /// <summary>Finds the driver and starts it.</summary>
    /// <exception cref="CudaUnavailableException">There is none, or it is too old.</exception>
    public static void Require() => _ = _version.Value;

    /// <summary>
    /// Turns a result that is not success into the exception that tells of it. Calls on a hot path build what they asked for only when
    /// they throw a <see cref="Failure"/>.
    /// </summary>
    public static void Check(CUresult result, string call, string? asked = null)
    {
        if (result != CUresult.CUDA_SUCCESS) throw Failure(result, call, asked);
    }

    public static CudaException Failure(CUresult result, string call, string? asked = null)
    {
        string text = Text(result);
        return new CudaException((int)result, Name(result), call, asked is null ? text : $"{text}; {asked}");
    }

    /// <summary>Loads <paramref name="library"/> and starts the driver in it, which must serve CUDA <paramref name="minimum"/>.</summary>
    internal static int Start(string library, int minimum)
    {
        // Kept loaded: the functions are bound to it.
        if (!NativeLibrary.TryLoad(library, out _))
        {
            throw new CudaUnavailableException(
                $"There is no NVIDIA driver here: {library} could not be loaded. Install a driver for CUDA {Readable(minimum)} or newer.");
        }
        int version;
        Check(LibCuda.cuDriverGetVersion(&version), nameof(LibCuda.cuDriverGetVersion));
        if (version < minimum)
        {
            throw new CudaUnavailableException(
                $"The NVIDIA driver here serves CUDA {Readable(version)}; CUDA {Readable(minimum)} or newer is needed. Install a newer driver.");
        }
        // By default the streams of a process share 8 queues; kernels that wait for each other must not stand behind one another in one.
        // Under MPS all processes share what queues there are. A value that the user has set stays, and once the process uses CUDA a change
        // has no effect.
        _ = Libc.setenv("CUDA_DEVICE_MAX_CONNECTIONS", IsUnderMps ? "8" : "32", overwrite: 0);
        CUresult result = LibCuda.cuInit(0);
        return result == CUresult.CUDA_SUCCESS ? version : throw new CudaUnavailableException(
            "The NVIDIA driver did not start. Is a device present, and is it visible (CUDA_VISIBLE_DEVICES)?",
            Failure(result, nameof(LibCuda.cuInit)));
    }

    /// <summary>A version of CUDA as people write it.</summary>
    public static string Readable(int version) => $"{version / 1000}.{version % 1000 / 10}";

    /// <summary>Whether the driver will find the control pipe of an MPS daemon, where it looks for one.</summary>
    private static bool IsUnderMps =>
        Path.Exists(Path.Combine(Environment.GetEnvironmentVariable("CUDA_MPS_PIPE_DIRECTORY") ?? "/tmp/nvidia-mps", "control"));

    private static string Name(CUresult result)
    {
        byte* name;
        return LibCuda.cuGetErrorName(result, &name) == CUresult.CUDA_SUCCESS ? Marshal.PtrToStringUTF8((nint)name)! : "an unknown error";
    }

    private static string Text(CUresult result)
    {
        byte* text;
        return LibCuda.cuGetErrorString(result, &text) == CUresult.CUDA_SUCCESS ? Marshal.PtrToStringUTF8((nint)text)! : "the driver says no more";
    }
}

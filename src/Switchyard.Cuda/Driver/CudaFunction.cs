using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>How a kernel is launched.</summary>
/// <param name="Blocks">Blocks of the grid.</param>
/// <param name="Threads">Threads of a block.</param>
/// <param name="SharedBytes">Dynamic shared memory of a block.</param>
/// <param name="Overlap">
/// Whether it may start while the kernel before it in the stream still runs, from where that one allows it (programmatic launch).
/// </param>
internal readonly record struct LaunchShape(int Blocks, int Threads, int SharedBytes = 0, bool Overlap = false);

/// <summary>A kernel, alive as long as its module.</summary>
internal sealed unsafe class CudaFunction
{
    private readonly CudaContext _context;
    private readonly nint _function;

    internal CudaFunction(CudaContext context, nint function, string name, int dynamicSharedBytes)
    {
        _context = context;
        _function = function;
        Name = name;
        if (dynamicSharedBytes > 0) AllowShared(dynamicSharedBytes);
    }

    public string Name { get; }

    /// <summary>Of a thread.</summary>
    public int Registers => Attribute(CUfunction_attribute.NUM_REGS);

    /// <summary>Of a thread, in device memory: spilled registers and arrays.</summary>
    public int LocalBytes => Attribute(CUfunction_attribute.LOCAL_SIZE_BYTES);

    public int StaticSharedBytes => Attribute(CUfunction_attribute.SHARED_SIZE_BYTES);

    public int MaxThreads => Attribute(CUfunction_attribute.MAX_THREADS_PER_BLOCK);

    /// <summary>Lets launches ask for so much dynamic shared memory.</summary>
    public void AllowShared(int bytes)
    {
        using CudaContext.Scope scope = _context.Enter();
        Check(
            LibCuda.cuFuncSetAttribute(_function, CUfunction_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes),
            nameof(LibCuda.cuFuncSetAttribute), $"{bytes} bytes of shared memory for {Name}");
    }

    /// <summary>Blocks of this shape that one multiprocessor holds at once.</summary>
    public int BlocksPerMultiprocessor(LaunchShape shape)
    {
        using CudaContext.Scope scope = _context.Enter();
        int blocks;
        Check(
            LibCuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, _function, shape.Threads, (nuint)shape.SharedBytes),
            nameof(LibCuda.cuOccupancyMaxActiveBlocksPerMultiprocessor), $"of {Name}");
        return blocks;
    }

    /// <summary>Enqueues the kernel with its one parameter, which is copied. Allocates nothing.</summary>
    public void Launch<TArgs>(LaunchShape shape, CudaStream stream, in TArgs args)
        where TArgs : unmanaged
    {
        using CudaContext.Scope scope = _context.Enter();
        CUlaunchAttribute overlap = new() { id = CUlaunchAttributeID.PROGRAMMATIC_STREAM_SERIALIZATION, value = 1 };
        CUlaunchConfig config = new()
        {
            gridDimX = (uint)shape.Blocks,
            gridDimY = 1,
            gridDimZ = 1,
            blockDimX = (uint)shape.Threads,
            blockDimY = 1,
            blockDimZ = 1,
            sharedMemBytes = (uint)shape.SharedBytes,
            hStream = stream.Handle,
            attrs = &overlap,
            numAttrs = shape.Overlap ? 1u : 0u,
        };
        CUresult result;
        fixed (TArgs* pointer = &args)
        {
            void* parameter = pointer;
            result = LibCuda.cuLaunchKernelEx(&config, _function, &parameter, null);
        }
        if (result != CUresult.CUDA_SUCCESS) throw Failure(result, nameof(LibCuda.cuLaunchKernelEx), $"{Name} with {shape}");
    }

    private int Attribute(CUfunction_attribute attribute)
    {
        int value;
        Check(LibCuda.cuFuncGetAttribute(&value, attribute, _function), nameof(LibCuda.cuFuncGetAttribute), $"for {attribute} of {Name}");
        return value;
    }
}

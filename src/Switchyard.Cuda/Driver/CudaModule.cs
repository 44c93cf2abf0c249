using System.Runtime.ExceptionServices;
using System.Text;
using Switchyard.Cuda.Interop;
using static Switchyard.Cuda.Driver.CudaDriver;

namespace Switchyard.Cuda.Driver;

/// <summary>Kernels of one PTX text, compiled by the driver for the device at hand.</summary>
internal sealed unsafe class CudaModule : DriverObject
{
    private const int LogBytes = 8192;
    private const int CompilerStackBytes = 64 << 20;

    private CudaModule(CudaContext context, nint handle) : base(handle) => Context = context;

    public CudaContext Context { get; }

    /// <summary>Compiles <paramref name="ptx"/>; where the driver cannot, the error has what its compiler said.</summary>
    public static CudaModule Load(CudaContext context, string ptx)
    {
        // On a thread of its own: the driver's compiler was seen to take more stack than those of .NET have.
        CudaModule? module = null;
        ExceptionDispatchInfo? failure = null;
        var compiler = new Thread(
            () =>
            {
                try
                {
                    module = Compile(context, ptx);
                }
                catch (CudaException error)
                {
                    failure = ExceptionDispatchInfo.Capture(error);
                }
            },
            CompilerStackBytes);
        compiler.Start();
        compiler.Join();
        failure?.Throw();
        return module!;
    }

    private static CudaModule Compile(CudaContext context, string ptx)
    {
        using CudaContext.Scope scope = context.Enter();
        byte[] image = [.. Encoding.UTF8.GetBytes(ptx), 0];
        byte* log = stackalloc byte[LogBytes];
        CUjit_option* options = stackalloc CUjit_option[] { CUjit_option.ERROR_LOG_BUFFER, CUjit_option.ERROR_LOG_BUFFER_SIZE_BYTES };
        nint* values = stackalloc nint[] { (nint)log, LogBytes };
        nint module;
        CUresult result;
        log[0] = 0;
        fixed (byte* text = image) result = LibCuda.cuModuleLoadDataEx(&module, text, 2, options, values);
        if (result != CUresult.CUDA_SUCCESS) throw Failure(result, nameof(LibCuda.cuModuleLoadDataEx), LogText(log));
        return new CudaModule(context, module);
    }

    /// <summary>The kernel of that name, loaded now: loading it at its first launch could wait for kernels that wait for it.</summary>
    /// <param name="name">The entry point.</param>
    /// <param name="dynamicSharedBytes">The most shared memory that a launch will ask for.</param>
    public CudaFunction GetFunction(string name, int dynamicSharedBytes = 0)
    {
        using CudaContext.Scope scope = Context.Enter();
        nint function;
        fixed (byte* text = Encoding.UTF8.GetBytes(name + '\0'))
            Check(LibCuda.cuModuleGetFunction(&function, Handle, text), nameof(LibCuda.cuModuleGetFunction), $"of {name}");
        return new CudaFunction(Context, function, name, dynamicSharedBytes);
    }

    protected override void Release(nint handle)
    {
        using CudaContext.Scope scope = Context.Enter();
        _ = LibCuda.cuModuleUnload(handle);
    }

    private static string LogText(byte* log)
    {
        string text = Encoding.UTF8.GetString(new ReadOnlySpan<byte>(log, LogBytes)).Split('\0')[0].Trim();
        return text.Length == 0 ? "the compiler said nothing" : text;
    }
}

using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Kernels;

/// <summary>
/// All kernels, loaded in one context before the first is launched: to load one may wait for kernels that run, and those may wait for it.
/// </summary>
internal sealed class KernelSet : IDisposable
{
    /// <summary>The oldest devices that the kernels run on: bulk copies and programmatic launch came with them.</summary>
    public static readonly Version MinimumCapability = new(9, 0);

    private readonly List<CudaModule> _modules = [];

    private KernelSet(CudaContext context)
    {
        Version capability = context.Device.ComputeCapability;
        if (capability < MinimumCapability)
        {
            throw new CudaUnavailableException(
                $"Device {context.Device.Ordinal} ({context.Device.Name}) has compute capability {capability}; {MinimumCapability} or newer is needed.");
        }
        try
        {
            CopyRows = new CopyRowsKernel(Load(context, CopyRowsKernel.Name), context.Device);
            FillRows = new FillRowsKernel(Load(context, FillRowsKernel.Name), context.Device);
            Barrier = new BarrierKernel(Load(context, BarrierKernel.Name));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public CopyRowsKernel CopyRows { get; }

    public FillRowsKernel FillRows { get; }

    public BarrierKernel Barrier { get; }

    public static KernelSet Load(CudaContext context) => new(context);

    /// <summary>The PTX of a kernel, as embedded.</summary>
    public static string Source(string name)
    {
        using Stream resource = typeof(KernelSet).Assembly.GetManifestResourceStream(name + ".ptx")!;
        using var reader = new StreamReader(resource);
        return reader.ReadToEnd();
    }

    public void Dispose()
    {
        foreach (CudaModule module in _modules) module.Dispose();
    }

    private CudaModule Load(CudaContext context, string name)
    {
        CudaModule module = CudaModule.Load(context, Source(name));
        _modules.Add(module);
        return module;
    }
}

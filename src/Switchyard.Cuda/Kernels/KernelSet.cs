using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Kernels;

/// <summary>
/// All kernels, loaded in one context before the first is launched: to load one may wait for kernels that run, and those may wait for it.
/// </summary>
internal sealed class KernelSet : IDisposable
{
    /// <summary>The oldest devices that the kernels run on: bulk copies and programmatic launch came with them.</summary>
    public static readonly Version MinimumCapability = new(9, 0);

    /// <summary>Shared memory that a block can have there, which dispatch divides among its warps.</summary>
    private const int MinimumSharedBytes = 227 << 10;

    private static readonly ElementType[] _elements = [ElementType.BFloat16, ElementType.Half, ElementType.Single];
    private readonly List<CudaModule> _modules = [];
    private readonly CombineKernel[] _combines;

    private KernelSet(CudaContext context)
    {
        RequireCapability(context.Device);
        try
        {
            CopyRows = new CopyRowsKernel(Load(context, CopyRowsKernel.Name), context.Device);
            Barrier = new BarrierKernel(Load(context, BarrierKernel.Name));
            Dispatch = new DispatchKernel(Load(context, DispatchKernel.Name), context.Device);
            CudaModule combine = Load(context, CombineKernel.Module);
            _combines = [.. _elements.Select(element => new CombineKernel(combine, element))];
            Control = new ControlKernel(Load(context, ControlKernel.Module));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public CopyRowsKernel CopyRows { get; }

    public BarrierKernel Barrier { get; }

    public DispatchKernel Dispatch { get; }

    public ControlKernel Control { get; }

    public CombineKernel Combine(ElementType element) => _combines[Array.IndexOf(_elements, element)];

    /// <exception cref="CudaUnavailableException">The device is too old, or of a kind with less shared memory.</exception>
    public static void RequireCapability(CudaDevice device)
    {
        Version capability = device.ComputeCapability;
        if (capability < MinimumCapability)
        {
            throw new CudaUnavailableException(
                $"Device {device.Ordinal} ({device.Name}) has compute capability {capability}; {MinimumCapability} or newer is needed.");
        }
        if (device.MaxSharedBytesPerBlock < MinimumSharedBytes)
        {
            throw new CudaUnavailableException(
                $"Device {device.Ordinal} ({device.Name}) has {device.MaxSharedBytesPerBlock} bytes of shared memory for a block; {MinimumSharedBytes} are needed.");
        }
    }

    public static KernelSet Load(CudaContext context) => new(context);

    /// <summary>
    /// Launches each kernel of calls once, with nothing to do: what the driver takes for a kernel at its first launch, it takes only when no other
    /// runs, and those may be waiting for this one.
    /// </summary>
    public void WarmUp(CudaStream stream, in ExchangeArgs idle)
    {
        CopyRows.WarmUp(stream, idle);
        Dispatch.WarmUp(stream, idle);
        foreach (CombineKernel combine in _combines) combine.WarmUp(stream, idle);
        Control.WarmUp(stream, idle);
    }

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

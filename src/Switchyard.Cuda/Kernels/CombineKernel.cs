using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;
using Switchyard.Protocol;

namespace Switchyard.Cuda.Kernels;

/// <summary>combine.cu: a whole combine of one rank, and the sums of pre-reduced rows before it; for one element type.</summary>
internal sealed class CombineKernel
{
    public const string Module = "combine";

    private const int Warps = 12;
    private const int SharedBytes = 256 + (Warps * 2 * 8 * 1024); // stages of 8 contributions of 1 KiB
    private readonly CudaFunction _combine;
    private readonly CudaFunction _sumGroups;

    internal CombineKernel(CudaModule module, ElementType element)
    {
        _combine = module.GetFunction(NameOf("combine", element), SharedBytes);
        _sumGroups = module.GetFunction(NameOf("sum_groups", element), SharedBytes);
    }

    /// <summary>As <see cref="KernelSet.WarmUp"/>.</summary>
    public void WarmUp(CudaStream stream, in ExchangeArgs idle)
    {
        Enqueue(stream, new CombineArgs { Exchange = idle, Plan = idle.State }, blocks: 1);
        Enqueue(stream, new SumArgs { Exchange = idle, Plan = idle.State }, blocks: 1);
    }

    public static string NameOf(string kernel, ElementType element) => element switch
    {
        ElementType.BFloat16 => $"{kernel}_bfloat16",
        ElementType.Half => $"{kernel}_half",
        ElementType.Single => $"{kernel}_single",
        _ => throw new ArgumentOutOfRangeException(nameof(element), element, "Rows of this element are not summed."),
    };

    /// <summary>Enqueues one rank's part; its blocks wait for the other ranks.</summary>
    public void Enqueue(CudaStream stream, in CombineArgs args, int blocks) => _combine.Launch(new LaunchShape(blocks, Warps * 32, SharedBytes, Overlap: true), stream, args);

    /// <summary>Enqueues the sums of this rank's groups; waits for nobody.</summary>
    public void Enqueue(CudaStream stream, in SumArgs args, int blocks) => _sumGroups.Launch(new LaunchShape(blocks, Warps * 32, SharedBytes, Overlap: true), stream, args);
}

/// <summary>Two addresses or lengths.</summary>
[InlineArray(2)]
internal struct Pair<T>
    where T : unmanaged
{
    private T _first;
}

/// <summary>The parameter of combine, as combine.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CombineArgs
{
    public ExchangeArgs Exchange;
    public Announcement Mine;
    public nint Output;
    public long OutputStride;
    public Pair<nint> Biases;
    public Pair<long> BiasStrides;
    public nint ChoiceWeights;
    public nint ReducedWeights;
    public nint Plan;
    public nint Sent;
    public nint Summed;
    public ulong Acknowledged;
    public uint Tokens;
    public uint RowBytes;
}

/// <summary>The parameter of sum_groups, as combine.cu lays it out.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SumArgs
{
    public ExchangeArgs Exchange;
    public nint Results;
    public long ResultStride;
    public nint Sums;
    public nint Groups;
    public nint Plan;
    public uint RowBytes;
    public uint Unused;
}

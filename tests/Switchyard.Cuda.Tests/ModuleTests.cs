using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>The embedded PTX, and what the driver makes of it.</summary>
public sealed partial class ModuleTests
{
    public static TheoryData<string, string, int> Kernels
    {
        get
        {
            var kernels = new TheoryData<string, string, int>
            {
                { CopyRowsKernel.Name, CopyRowsKernel.Name, Unsafe.SizeOf<CopyRowsArgs>() },
                { BarrierKernel.Name, BarrierKernel.Name, Unsafe.SizeOf<BarrierArgs>() },
                { BarrierKernel.Name, BarrierKernel.StampName, Unsafe.SizeOf<StampArgs>() },
                { DispatchKernel.Name, DispatchKernel.Name, Unsafe.SizeOf<DispatchArgs>() },
                { ControlKernel.Module, ControlKernel.AwaitDoneName, Unsafe.SizeOf<ExchangeArgs>() },
                { ControlKernel.Module, ControlKernel.CloseName, Unsafe.SizeOf<ExchangeArgs>() },
            };
            foreach (ElementType element in new[] { ElementType.BFloat16, ElementType.Half, ElementType.Single })
            {
                kernels.Add(CombineKernel.Module, CombineKernel.NameOf("combine", element), Unsafe.SizeOf<CombineArgs>());
                kernels.Add(CombineKernel.Module, CombineKernel.NameOf("sum_groups", element), Unsafe.SizeOf<SumArgs>());
            }
            return kernels;
        }
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_kernel_takes_one_parameter_of_the_size_that_its_launcher_passes(string module, string name, int bytes)
    {
        Match only = Assert.Single(Entry().Matches(KernelSet.Source(module)), entry => entry.Groups[1].Value == name);
        Assert.Equal((bytes, ")"), (int.Parse(only.Groups[2].Value, CultureInfo.InvariantCulture), only.Groups[3].Value));
    }

    [Fact]
    public void Every_kernel_that_is_embedded_is_held_to_its_parameter()
    {
        IEnumerable<string> modules = typeof(KernelSet).Assembly.GetManifestResourceNames().Select(name => name.Replace(".ptx", "", StringComparison.Ordinal));
        IEnumerable<(string, string)> embedded = modules.SelectMany(module => Entry().Matches(KernelSet.Source(module)).Select(entry => (module, entry.Groups[1].Value)));
        Assert.Equal(embedded.Order(), Kernels.Select(row => (row.Data.Item1, row.Data.Item2)).Order());
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_kernel_spills_no_registers(string module, string name, int bytes)
    {
        using var gpu = new Gpu();
        using CudaModule loaded = CudaModule.Load(gpu.Context, KernelSet.Source(module));
        CudaFunction function = loaded.GetFunction(name);
        // The record of a fault, and what its writer keeps, are there.
        Assert.InRange(function.LocalBytes, 0, 384);
        Assert.InRange(function.Registers, 1, 168);
        Assert.InRange(function.MaxThreads, 32, 1024);
        Assert.InRange(function.StaticSharedBytes, 0, 10_240); // what lies beside a ring of 7 rows of 14 KiB, twice
        Assert.InRange(bytes, 1, 4096);
    }

    [Fact]
    public void More_shared_memory_means_fewer_blocks_at_once()
    {
        using var gpu = new Gpu();
        using CudaModule module = CudaModule.Load(gpu.Context, KernelSet.Source(CopyRowsKernel.Name));
        int most = gpu.Device.MaxSharedBytesPerBlock;
        CudaFunction function = module.GetFunction(CopyRowsKernel.Name, most);
        Assert.Equal(1, function.BlocksPerMultiprocessor(new LaunchShape(1, 224, most)));
        Assert.InRange(function.BlocksPerMultiprocessor(new LaunchShape(1, 224, most / 4)), 2, 4);
    }

    [Fact]
    public void What_the_drivers_compiler_says_is_in_the_error()
    {
        using var gpu = new Gpu();
        string broken = KernelSet.Source(CopyRowsKernel.Name).Replace("griddepcontrol.wait", "griddepcontrol.nonsense", StringComparison.Ordinal);
        CudaException error = Assert.Throws<CudaException>(() => CudaModule.Load(gpu.Context, broken));
        Assert.Equal(("CUDA_ERROR_INVALID_PTX", "cuModuleLoadDataEx"), (error.Name, error.Call));
        Assert.Contains("nonsense", error.Message, StringComparison.Ordinal);
        gpu.Context.Synchronize();
    }

    [Fact]
    public void A_launch_that_cannot_be_names_the_kernel_and_its_shape()
    {
        using var gpu = new Gpu();
        using CudaModule module = CudaModule.Load(gpu.Context, KernelSet.Source(CopyRowsKernel.Name));
        CudaFunction function = module.GetFunction(CopyRowsKernel.Name);
        CudaException error = Assert.Throws<CudaException>(() => function.Launch(new LaunchShape(1, 4096), gpu.Stream, default(CopyRowsArgs)));
        Assert.Contains("copy_rows with LaunchShape { Blocks = 1, Threads = 4096", error.Message, StringComparison.Ordinal);
    }

    [GeneratedRegex(@"\.entry (\w+)\(\s*\.param [^\n]*\.b8 \w+\[(\d+)\]\s*(.)")]
    private static partial Regex Entry();
}

using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>The embedded PTX, and what the driver makes of it.</summary>
public sealed partial class ModuleTests
{
    public static TheoryData<string, int> Kernels => new()
    {
        { CopyRowsKernel.Name, Unsafe.SizeOf<CopyRowsArgs>() },
        { FillRowsKernel.Name, Unsafe.SizeOf<FillRowsArgs>() },
        { BarrierKernel.Name, Unsafe.SizeOf<BarrierArgs>() },
    };

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_kernel_takes_one_parameter_of_the_size_that_its_launcher_passes(string name, int bytes)
    {
        Match only = Assert.Single(Parameter().Matches(KernelSet.Source(name)).AsEnumerable());
        Assert.Equal((name, bytes), (only.Groups[1].Value, int.Parse(only.Groups[2].Value, CultureInfo.InvariantCulture)));
    }

    [Fact]
    public void Every_kernel_that_is_embedded_is_held_to_its_parameter()
    {
        IEnumerable<string> embedded = typeof(KernelSet).Assembly.GetManifestResourceNames().Select(name => name.Replace(".ptx", "", StringComparison.Ordinal));
        Assert.Equal(embedded.Order(), Kernels.Select(row => row.Data.Item1).Order());
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_kernel_spills_no_registers(string name, int bytes)
    {
        using var gpu = new Gpu();
        using CudaModule module = CudaModule.Load(gpu.Context, KernelSet.Source(name));
        CudaFunction function = module.GetFunction(name);
        Assert.Equal(0, function.LocalBytes);
        Assert.InRange(function.Registers, 1, 128);
        Assert.InRange(function.MaxThreads, 32, 1024);
        Assert.InRange(function.StaticSharedBytes, 0, 1024);
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
        string broken = KernelSet.Source(FillRowsKernel.Name).Replace("griddepcontrol.wait", "griddepcontrol.nonsense", StringComparison.Ordinal);
        CudaException error = Assert.Throws<CudaException>(() => CudaModule.Load(gpu.Context, broken));
        Assert.Equal(("CUDA_ERROR_INVALID_PTX", "cuModuleLoadDataEx"), (error.Name, error.Call));
        Assert.Contains("nonsense", error.Message, StringComparison.Ordinal);
        gpu.Context.Synchronize();
    }

    [Fact]
    public void A_launch_that_cannot_be_names_the_kernel_and_its_shape()
    {
        using var gpu = new Gpu();
        using CudaModule module = CudaModule.Load(gpu.Context, KernelSet.Source(FillRowsKernel.Name));
        CudaFunction function = module.GetFunction(FillRowsKernel.Name);
        CudaException error = Assert.Throws<CudaException>(() => function.Launch(new LaunchShape(1, 4096), gpu.Stream, default(FillRowsArgs)));
        Assert.Contains("fill_rows with LaunchShape { Blocks = 1, Threads = 4096", error.Message, StringComparison.Ordinal);
    }

    [GeneratedRegex(@"\.param [^\n]*\.b8 (\w+)_param_0\[(\d+)\]")]
    private static partial Regex Parameter();
}

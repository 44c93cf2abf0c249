using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>What the driver layer and the first kernels cost on the device at hand, each beside a check of its result.</summary>
internal static class Measurements
{
    private const int Repetitions = 50;
    private static readonly JsonSerializerOptions _indented = new() { WriteIndented = true };

    /// <summary>Measures and writes a record to <paramref name="file"/>.</summary>
    public static int Run(string file, string commit)
    {
        if (Gpu.WhyMissing(1) is { } reason)
        {
            Console.Error.WriteLine($"measure: {reason}");
            return 1;
        }
        using var gpu = new Gpu();
        Dictionary<string, object> record = new()
        {
            ["backend"] = "cuda",
            ["mode"] = "layers",
            ["device"] = gpu.Device.Name,
            ["multiprocessors"] = gpu.Device.MultiprocessorCount,
            ["cuda"] = CudaDriver.Version,
            ["runtime"] = RuntimeInformation.FrameworkDescription,
            ["commit"] = commit,
            ["repetitions"] = Repetitions,
            ["copies"] = Copies(gpu),
            ["barriers"] = Barriers(gpu),
            ["launches"] = Launches(gpu),
        };
        if (CudaDevice.Count > 1)
        {
            using var other = new Gpu(1);
            if (gpu.Device.CanAccess(other.Device) && other.Device.CanAccess(gpu.Device)) record["link"] = Link(gpu, other);
        }
        string text = JsonSerializer.Serialize(record, _indented);
        File.WriteAllText(file, text + "\n");
        Console.WriteLine(text);
        return 0;
    }

    private static List<Dictionary<string, object>> Copies(Gpu gpu)
    {
        const long Bytes = 2L << 30;
        const int RowBytes = 14336;
        const long Rows = Bytes / RowBytes;
        using CudaBytes source = gpu.Allocate(Bytes), target = gpu.Allocate(Bytes);
        FillRandom(source);
        List<Dictionary<string, object>> results = [Copy(gpu, source, target, Rows * RowBytes, "driver", 0, () => gpu.Stream.Copy(target.Address, source.Address, Rows * RowBytes))];
        DeviceRows from = new(source.Address, Rows, RowBytes), to = new(target.Address, Rows, RowBytes);
        foreach (int blocks in new[] { gpu.Device.MultiprocessorCount, 128, 64, 32, 16, 8 })
            results.Add(Copy(gpu, source, target, Rows * RowBytes, CopyRowsKernel.Name, blocks, () => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, from, to, blocks)));
        return results;
    }

    private static Dictionary<string, object> Copy(Gpu gpu, CudaBytes source, CudaBytes target, long bytes, string by, int blocks, Action enqueue)
    {
        target.Clear();
        double[] microseconds = Time(gpu.Stream, enqueue);
        const int Sample = 1 << 20;
        for (long offset = 0; offset + Sample <= bytes; offset += bytes / 16)
        {
            if (!source.Read<byte>(Sample, offset).AsSpan().SequenceEqual(target.Read<byte>(Sample, offset)))
                throw new InvalidDataException($"{by} with {blocks} blocks copied wrongly at {offset}.");
        }
        return new()
        {
            ["by"] = by,
            ["blocks"] = blocks,
            ["bytes"] = bytes,
            ["p50Us"] = Quantile(microseconds, 0.5),
            ["p99Us"] = Quantile(microseconds, 0.99),
            // Each byte counted once: within a device the memory moves twice as many, as it is read and written.
            ["gigabytesPerSecond"] = Math.Round(bytes / Quantile(microseconds, 0.5) / 1e3, 1),
        };
    }

    /// <summary>Bytes over the link from one device to the other, by kernels of either, and barriers over it.</summary>
    private static Dictionary<string, object> Link(Gpu one, Gpu other)
    {
        const int RowBytes = 14336;
        const long Rows = (1L << 30) / RowBytes;
        using CudaBytes source = new(one, Rows * RowBytes, other.Device), target = new(other, Rows * RowBytes, one.Device);
        FillRandom(source);
        DeviceRows from = new(source.Address, Rows, RowBytes), to = new(target.Address, Rows, RowBytes);
        List<Dictionary<string, object>> copies = [];
        foreach (int blocks in new[] { 132, 32, 24, 16, 8, 4 })
        {
            copies.Add(Copy(one, source, target, Rows * RowBytes, "push", blocks, () => one.Kernels.CopyRows.Enqueue(one.Stream, from, to, blocks)));
            copies.Add(Copy(other, source, target, Rows * RowBytes, "pull", blocks, () => other.Kernels.CopyRows.Enqueue(other.Stream, from, to, blocks)));
        }
        copies.Add(Copy(one, source, target, Rows * RowBytes, "driver", 0, () => one.Stream.Copy(target.Address, source.Address, Rows * RowBytes)));
        return new() { ["device"] = other.Device.Name, ["copies"] = copies, ["barriers"] = new[] { Barrier([one, other], 1), Barrier([one, other], 16) } };
    }

    private static List<Dictionary<string, object>> Barriers(Gpu gpu) =>
        [.. new[] { (1, 1), (1, 16), (2, 16), (4, 16), (8, 1), (8, 16), (16, 8) }.Select(each => Barrier([.. Enumerable.Repeat(gpu, each.Item1)], each.Item2))];

    private static Dictionary<string, object> Barrier(Gpu[] gpus, int blocks)
    {
        const int Rounds = 2000;
        using var ranks = new BarrierRanks(gpus);
        using CudaEvent start = CudaEvent.Create(gpus[0].Context, timing: true), end = CudaEvent.Create(gpus[0].Context, timing: true);
        var nanoseconds = new double[Repetitions];
        for (int turn = -3; turn < Repetitions; turn++)
        {
            ranks.EnqueueAll(blocks); // all are there when the clock starts
            start.Record(ranks.Streams[0]);
            ranks.EnqueueAll(blocks, Rounds);
            end.Record(ranks.Streams[0]);
            ranks.Synchronize();
            if (turn >= 0) nanoseconds[turn] = end.Since(start).TotalNanoseconds / Rounds;
        }
        if (ranks.Records.Any(record => record.Cause != BarrierCause.None) || ranks.Epochs.Any(epoch => epoch != (Repetitions + 3) * (ulong)(Rounds + 1)))
            throw new InvalidDataException($"{gpus.Length} ranks did not meet.");
        return new()
        {
            ["ranks"] = gpus.Length,
            ["blocksPerRank"] = blocks,
            ["rounds"] = Rounds,
            ["p50Us"] = Math.Round(Quantile(nanoseconds, 0.5) / 1000, 3),
            ["p99Us"] = Math.Round(Quantile(nanoseconds, 0.99) / 1000, 3),
        };
    }

    /// <summary>Time of the host for one launch, while the device keeps up, and bytes that it allocates.</summary>
    private static List<Dictionary<string, object>> Launches(Gpu gpu)
    {
        const int Batch = 100;
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        DeviceRows row = new(bytes.Address, 1, 64), target = row with { Address = row.Address + 4096 };
        bytes.Write<uint>([1]);
        using var ranks = BarrierRanks.OnOne(gpu, 1);
        using CudaEvent recorded = CudaEvent.Create(gpu.Context);
        using CudaModule module = CudaModule.Load(gpu.Context, KernelSet.Source(CopyRowsKernel.Name));
        nint function = FunctionOf(module);
        CopyRowsArgs args = new()
        {
            Source = row.Address,
            Target = target.Address,
            SourceStride = row.Stride,
            TargetStride = target.Stride,
            Pieces = 1,
            RowBytes = (uint)row.RowBytes,
            PieceBytes = (uint)row.RowBytes,
            PiecesPerRow = 1,
            Warps = 1,
        };
        List<Dictionary<string, object>> results = [];
        foreach ((string name, bool entered, Action launch) in new (string, bool, Action)[]
        {
            ("the driver's call alone", true, () => LaunchAlone(function, gpu.Stream, args)),
            (CopyRowsKernel.Name, false, () => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, row, target, blocks: 1)),
            (CopyRowsKernel.Name, true, () => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, row, target, blocks: 1)),
            (BarrierKernel.Name, true, () => ranks.Enqueue(0, 1, TimeSpan.FromSeconds(20))),
            ("recording an event", true, () => recorded.Record(gpu.Stream)),
            ("asking whether a stream is captured", true, () => _ = gpu.Stream.IsCapturing),
            ("asking for the context", true, () => gpu.Context.Enter().Dispose()),
            ("querying an event", true, () => _ = recorded.IsDone),
        })
        {
            using CudaContext.Scope scope = entered ? gpu.Context.Enter() : default;
            var nanoseconds = new double[Repetitions];
            long allocated = 0;
            // The compiler has finished with what is called often after some hundred milliseconds.
            for (var warm = Stopwatch.StartNew(); warm.ElapsedMilliseconds < 500; gpu.Context.Synchronize()) for (int each = 0; each < Batch; each++) launch();
            for (int turn = 0; turn < Repetitions; turn++)
            {
                gpu.Context.Synchronize();
                long before = GC.GetAllocatedBytesForCurrentThread(), began = Stopwatch.GetTimestamp();
                for (int each = 0; each < Batch; each++) launch();
                nanoseconds[turn] = Stopwatch.GetElapsedTime(began).TotalNanoseconds / Batch;
                allocated += GC.GetAllocatedBytesForCurrentThread() - before;
            }
            gpu.Context.Synchronize();
            results.Add(new()
            {
                ["kernel"] = name,
                ["contextCurrent"] = entered,
                ["p50Ns"] = Math.Round(Quantile(nanoseconds, 0.5)),
                ["p99Ns"] = Math.Round(Quantile(nanoseconds, 0.99)),
                ["allocatedBytes"] = allocated,
            });
        }
        if (bytes.Read<uint>(17, 4096) is not [1, .., 0xA5A5A5A5]) throw new InvalidDataException("The launches did not copy their row, or more.");
        return results;
    }

    private static unsafe nint FunctionOf(CudaModule module)
    {
        nint function;
        fixed (byte* name = "copy_rows\0"u8) CudaDriver.Check(LibCuda.cuModuleGetFunction(&function, module.Handle, name), nameof(LibCuda.cuModuleGetFunction));
        return function;
    }

    private static unsafe void LaunchAlone(nint function, CudaStream stream, CopyRowsArgs args)
    {
        CUlaunchConfig config = new() { gridDimX = 1, gridDimY = 1, gridDimZ = 1, blockDimX = 32, blockDimY = 1, blockDimZ = 1, sharedMemBytes = 1024, hStream = stream.Handle };
        void* parameter = &args;
        CudaDriver.Check(LibCuda.cuLaunchKernelEx(&config, function, &parameter, null), nameof(LibCuda.cuLaunchKernelEx));
    }

    private static double[] Time(CudaStream stream, Action enqueue)
    {
        using CudaEvent start = CudaEvent.Create(stream.Context, timing: true), end = CudaEvent.Create(stream.Context, timing: true);
        var microseconds = new double[Repetitions];
        for (int turn = -3; turn < Repetitions; turn++)
        {
            start.Record(stream);
            enqueue();
            end.Record(stream);
            end.Synchronize();
            if (turn >= 0) microseconds[turn] = end.Since(start).TotalMicroseconds;
        }
        return microseconds;
    }

    private static void FillRandom(CudaBytes bytes)
    {
        var chunk = new byte[(64 << 20) + 4096];
        new Random(1).NextBytes(chunk);
        int turn = 0;
        // Shifted from chunk to chunk, so that a chunk in another's place is found.
        for (long offset = 0; offset < bytes.Bytes; offset += 64 << 20, turn++)
            bytes.Write<byte>(chunk.AsSpan(turn * 16, (int)Math.Min(64 << 20, bytes.Bytes - offset)), offset);
    }

    private static double Quantile(double[] values, double quantile)
    {
        double[] sorted = [.. values.Order()];
        return Math.Round(sorted[(int)Math.Min(sorted.Length - 1, Math.Ceiling(quantile * sorted.Length) - 1)], 2);
    }
}

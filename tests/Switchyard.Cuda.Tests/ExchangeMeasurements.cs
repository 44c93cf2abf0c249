using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;

namespace Switchyard.Cuda.Tests;

/// <summary>
/// What dispatch and combine cost where several ranks share a device, everything included: from the first rank's start, after all have met, to the
/// last one's end. What was exchanged is checked in the same run.
/// </summary>
internal sealed class ExchangeMeasurements : IDisposable
{
    private const int Hidden = 7168;
    private const int TopK = 8;
    private const int Experts = 256;
    private const int Tokens = 4096;
    private const int Repetitions = 20;
    private const int Warmup = 3;
    private const int MeetingRounds = 150; // so long that all calls are enqueued when it ends
    private static readonly JsonSerializerOptions _indented = new() { WriteIndented = true };

    private readonly Gpu _gpu = new();
    private readonly BarrierRanks _meeting;
    private readonly ExpertGroup[] _groups;
    private readonly DeviceMemory[] _x;
    private readonly DeviceMemory[] _output;
    private readonly DeviceMemory[] _scales;
    private readonly DeviceMemory[] _indices;
    private readonly DeviceMemory[] _weights;
    private readonly ushort[][] _rows;
    private readonly CudaEvent[] _start;
    private readonly CudaEvent[] _end;
    private readonly double _copyGBps;

    private ExchangeMeasurements(int ranks)
    {
        CudaRuntime runtime = CudaRuntime.Of(0);
        _meeting = BarrierRanks.OnOne(_gpu, ranks);
        _groups = ExpertGroup.CreateLocal(ranks);
        _copyGBps = MeasureCopy();
        _rows = [.. Enumerable.Range(0, ranks).Select(DrawRows)];
        _x = [.. _rows.Select(rows => Upload<ushort>(runtime, rows))];
        _output = [.. _groups.Select(_ => new DeviceMemory(runtime, (long)Tokens * Hidden * sizeof(ushort)))];
        _scales = [.. _groups.Select(group => Upload<float>(runtime, [.. Enumerable.Range(0, Tokens * Hidden / 128).Select(i => (group.Rank * 1e6f) + i)]))];
        _indices = [.. _groups.Select(_ => new DeviceMemory(runtime, Tokens * TopK * sizeof(int)))];
        _weights = [.. _groups.Select(group => Upload<float>(runtime, [.. Enumerable.Range(0, Tokens * TopK).Select(i => group.Rank + (i / 65536f))]))];
        _start = [.. _groups.Select(_ => CudaEvent.Create(_gpu.Context, timing: true))];
        _end = [.. _groups.Select(_ => CudaEvent.Create(_gpu.Context, timing: true))];
    }

    private int Ranks => _groups.Length;

    /// <summary>Measures and writes a record to <paramref name="file"/>.</summary>
    public static int Run(string file, string commit)
    {
        if (Gpu.WhyMissing(1) is { } reason)
        {
            Console.Error.WriteLine($"bench: {reason}");
            return 1;
        }
        using var measurements = new ExchangeMeasurements(ranks: 8);
        var results = new List<Dictionary<string, object>>();
        foreach ((string routing, string element, int multiprocessors) in new[]
        {
            ("uniform", "bf16", 16), ("uniform", "bf16", 8), ("uniform", "bf16", 4), ("uniform", "fp8", 16), ("uniform", "fp8", 4),
            ("zipf:1.0", "bf16", 16), ("one-rank", "bf16", 16), ("uniform", "16 bytes", 16),
            ("no choices", "16 bytes", 16), ("no tokens", "16 bytes", 16),
        })
        {
            Dictionary<string, object> result = measurements.Measure(routing, element, multiprocessors);
            result["commit"] = commit;
            results.Add(result);
            Console.WriteLine(string.Join("  ", new[] { "routing", "element", "sms", "rows", "verified", "dispatchUs", "dispatchFractionOfCopy", "combineUs", "combineFractionOfCopy", "hostDispatchUs", "hostCombineUs", "allocatedBytesPerStep" }
                .Where(result.ContainsKey).Select(name => $"{name} {JsonSerializer.Serialize(result[name])}")));
        }
        Dictionary<string, object> host = MeasureHost(measurements._gpu);
        results.Add(host);
        Console.WriteLine(JsonSerializer.Serialize(host));
        File.WriteAllText(file, JsonSerializer.Serialize(results, _indented) + "\n");
        return results.All(result => (bool)result["verified"]) ? 0 : 1;
    }

    /// <summary>Time of the host for calls that do not wait, one behind the other, and what they allocate.</summary>
    private static Dictionary<string, object> MeasureHost(Gpu gpu)
    {
        const int Pairs = 64; // as many as the device's queue takes without holding up the host
        using var calls = new CallRanks(gpu, 1);
        calls.Draw();
        var device = new DeviceOptions { Stream = calls.Streams[0].Handle };
        double[] dispatch = new double[Repetitions], combine = new double[Repetitions];
        long allocated = 0;
        for (int turn = -Warmup; turn < Repetitions; turn++)
        {
            long inDispatch = 0, inCombine = 0, before = GC.GetAllocatedBytesForCurrentThread();
            for (int pair = 0; pair < Pairs; pair++)
            {
                long start = Stopwatch.GetTimestamp();
                Dispatched received = calls.Dispatch(0, device);
                long middle = Stopwatch.GetTimestamp();
                calls.Combine(0, received, device);
                inDispatch += middle - start;
                inCombine += Stopwatch.GetTimestamp() - middle;
                received.Handle.Dispose();
                received.Dispose();
            }
            if (turn >= 0)
            {
                allocated += GC.GetAllocatedBytesForCurrentThread() - before;
                (dispatch[turn], combine[turn]) = (Stopwatch.GetElapsedTime(0, inDispatch).TotalMicroseconds / Pairs, Stopwatch.GetElapsedTime(0, inCombine).TotalMicroseconds / Pairs);
            }
            calls.Synchronize();
        }
        calls.RequireSums();
        return new()
        {
            ["backend"] = "cuda",
            ["mode"] = "host",
            ["ranks"] = 1,
            ["tokens"] = CallRanks.Tokens,
            ["verified"] = true,
            ["hostDispatchUs"] = Percentiles(dispatch),
            ["hostCombineUs"] = Percentiles(combine),
            ["allocatedBytes"] = allocated,
        };
    }

    public void Dispose()
    {
        foreach (IDisposable each in _start.Concat<IDisposable>(_end).Concat(_x).Concat(_output).Concat(_scales).Concat(_indices).Concat(_weights).Concat(_groups)) each.Dispose();
        _meeting.Dispose();
        _gpu.Dispose();
    }

    private Dictionary<string, object> Measure(string routing, string element, int multiprocessors)
    {
        int[][] choices = [.. _groups.Select(group => Choose(routing, group.Rank))];
        for (int rank = 0; rank < Ranks; rank++) Write<int>(_indices[rank], choices[rank]);
        List<(int Source, int Token)>[] expected = [.. _groups.Select(group => ExpectedRows(choices, group.Rank))];
        int most = Math.Max(1, expected.Max(rows => rows.Count));
        long total = expected.Sum(rows => (long)rows.Count);
        var options = new ExpertBufferOptions
        {
            Backend = CudaBackend.For(0),
            Experts = Experts,
            TopK = TopK,
            Hidden = Hidden,
            MaxTokensPerRank = Tokens,
            Element = ElementType.BFloat16,
            ReceiveCapacity = most,
            MemoryBudget = most * (Hidden * 2L + 256) * 5 / 4,
        };
        ExpertBuffer[] buffers = Task.WhenAll(_groups.Select(group => ExpertBuffer.CreateAsync(group, options))).GetAwaiter().GetResult();
        try
        {
            bool isCombined = element == "bf16";
            var dispatchUs = new double[Repetitions];
            var combineUs = new double[Repetitions];
            double hostDispatch = 0, hostCombine = 0;
            long allocated = 0;
            bool verified = true;
            for (int turn = -Warmup; turn < Repetitions; turn++)
            {
                var received = new Dispatched[Ranks];
                long before = GC.GetAllocatedBytesForCurrentThread();
                (double time, double host) = TimeAll(rank => received[rank] = Dispatch(buffers[rank], rank, element, multiprocessors, routing == "no tokens" ? 0 : Tokens));
                double combineTime = 0, combineHost = 0;
                if (isCombined) (combineTime, combineHost) = TimeAll(rank => Combine(buffers[rank], received[rank], rank, multiprocessors));
                if (turn >= 0)
                {
                    allocated += GC.GetAllocatedBytesForCurrentThread() - before;
                    (dispatchUs[turn], combineUs[turn]) = (time, combineTime);
                    hostDispatch += host / Repetitions;
                    hostCombine += combineHost / Repetitions;
                }
                if (turn is -Warmup or Repetitions - 1) verified &= IsRight(received, expected, choices, element);
                foreach (Dispatched each in received)
                {
                    each.Handle.Dispose();
                    each.Dispose();
                }
            }
            int rowBytes = RowBytes(element);
            var result = new Dictionary<string, object>
            {
                ["backend"] = "cuda",
                ["mode"] = "throughput",
                ["ranks"] = Ranks,
                ["processes"] = false,
                ["tokens"] = Tokens,
                ["hidden"] = Hidden,
                ["topK"] = TopK,
                ["experts"] = Experts,
                ["element"] = element,
                ["layout"] = "rank",
                ["routing"] = routing,
                ["sms"] = multiprocessors,
                ["rows"] = total,
                ["verified"] = verified,
                ["dispatchUs"] = Percentiles(dispatchUs),
                ["copyGBps"] = Math.Round(_copyGBps, 1),
                ["dispatchFractionOfCopy"] = Fraction(total, rowBytes, dispatchUs),
                ["hostDispatchUs"] = Math.Round(hostDispatch, 2),
                ["allocatedBytesPerStep"] = allocated / Repetitions,
                ["device"] = _gpu.Device.Name,
                ["driver"] = CudaDriver.Version,
                ["runtime"] = RuntimeInformation.FrameworkDescription,
            };
            if (isCombined)
            {
                result["combineUs"] = Percentiles(combineUs);
                result["combineFractionOfCopy"] = Fraction(total, rowBytes, combineUs);
                result["hostCombineUs"] = Math.Round(hostCombine, 2);
            }
            return result;
        }
        finally
        {
            foreach (ExpertBuffer buffer in buffers) buffer.Dispose();
            _gpu.Context.Synchronize();
        }
    }

    private Dispatched Dispatch(ExpertBuffer buffer, int rank, string element, int multiprocessors, int tokens)
    {
        var options = new DispatchOptions { FixedShape = true, Device = On(rank, multiprocessors) };
        ReadOnlyTensorView indices = View(_indices[rank], TopK, ElementType.Int32, tokens), weights = View(_weights[rank], TopK, ElementType.Single, tokens);
        if (element == "bf16") return buffer.Dispatch(View(_x[rank], Hidden, ElementType.BFloat16), indices, weights, options);
        int rowBytes = RowBytes(element);
        ReadOnlyTensorView scales = element == "fp8" ? View(_scales[rank], Hidden / 128, ElementType.Single) : default;
        return buffer.Dispatch(new ScaledRows(View(_x[rank], rowBytes, ElementType.Byte, tokens), scales), indices, weights, options);
    }

    private void Combine(ExpertBuffer buffer, Dispatched received, int rank, int multiprocessors)
    {
        TensorView output = TensorView.FromPointer(_output[rank].Address, Tokens, Hidden, Hidden, ElementType.BFloat16, device: 0);
        buffer.Combine(received.Rows, received.Handle, output, new() { Device = On(rank, multiprocessors) });
    }

    private DeviceOptions On(int rank, int multiprocessors) => new() { Stream = _meeting.Streams[rank].Handle, Multiprocessors = multiprocessors };

    /// <summary>Lets all ranks meet, then enqueues a call of each; the time of the slowest, and that of the host for one call.</summary>
    private (double DeviceUs, double HostUs) TimeAll(Action<int> call)
    {
        _meeting.EnqueueAll(blocks: 1, MeetingRounds);
        long host = 0;
        for (int rank = 0; rank < Ranks; rank++)
        {
            _start[rank].Record(_meeting.Streams[rank]);
            long began = Stopwatch.GetTimestamp();
            call(rank);
            host += Stopwatch.GetTimestamp() - began;
            _end[rank].Record(_meeting.Streams[rank]);
        }
        _meeting.Synchronize();
        double first = _start.Min(each => each.Since(_start[0]).TotalMicroseconds), last = _end.Max(each => each.Since(_start[0]).TotalMicroseconds);
        return (last - first, Stopwatch.GetElapsedTime(0, host).TotalMicroseconds / Ranks);
    }

    private bool IsRight(Dispatched[] received, List<(int Source, int Token)>[] expected, int[][] choices, string element)
    {
        int rowBytes = RowBytes(element);
        for (int rank = 0; rank < Ranks; rank++)
        {
            Dispatched d = received[rank];
            if (Read<int>(d.Counts.Address, 1)[0] != expected[rank].Count) return false;
            int[] sources = Read<int>(d.SourcesView.Address, 2 * d.RowCount);
            float[] weights = Read<float>(d.TopkWeightsView.Address, TopK * d.RowCount);
            for (int row = 0; row < d.RowCount; row++)
            {
                (int source, int token) = row < expected[rank].Count ? expected[rank][row] : (-1, -1);
                if ((sources[2 * row], sources[(2 * row) + 1]) != (source, token)) return false;
                for (int k = 0; k < TopK; k++)
                {
                    bool isHere = source >= 0 && choices[source][(token * TopK) + k] * Ranks / Experts == rank;
                    if (weights[(row * TopK) + k] != (isHere ? source + (((token * TopK) + k) / 65536f) : 0)) return false;
                }
            }
            for (int row = 0; row < expected[rank].Count; row += 97)
            {
                (int source, int token) = expected[rank][row];
                ReadOnlySpan<byte> sent = MemoryMarshal.AsBytes(_rows[source].AsSpan()).Slice(token * rowBytes, rowBytes);
                if (!Read<byte>(d.Rows.Address + (nint)((long)row * rowBytes), rowBytes).AsSpan().SequenceEqual(sent)) return false;
                if (element != "fp8") continue;
                float[] scales = Read<float>(d.Scales.Address + (row * Hidden / 128 * sizeof(float)), Hidden / 128);
                for (int i = 0; i < scales.Length; i++) if (scales[i] != (source * 1e6f) + (token * Hidden / 128) + i) return false;
            }
            if (element != "bf16") continue;
            for (int token = 0; token < Tokens; token += 53)
            {
                int rows = choices[rank].AsSpan(token * TopK, TopK).ToArray().Select(expert => expert * Ranks / Experts).Distinct().Count();
                ushort[] sums = Read<ushort>(_output[rank].Address + (nint)((long)token * Hidden * 2), Hidden);
                for (int i = 0; i < Hidden; i++)
                {
                    float value = BitConverter.UInt32BitsToSingle((uint)_rows[rank][(token * Hidden) + i] << 16), sum = value;
                    for (int more = 1; more < rows; more++) sum += value;
                    if (BFloat16.FromSingle(sum) != BFloat16.FromSingle(BitConverter.UInt32BitsToSingle((uint)sums[i] << 16))) return false;
                }
            }
        }
        return true;
    }

    private double MeasureCopy()
    {
        const long Bytes = 2L << 30;
        using var from = new DeviceMemory(CudaRuntime.Of(0), Bytes);
        using var to = new DeviceMemory(CudaRuntime.Of(0), Bytes);
        using CudaEvent start = CudaEvent.Create(_gpu.Context, timing: true), end = CudaEvent.Create(_gpu.Context, timing: true);
        _gpu.Stream.Fill(from.Address, 0x5A, Bytes);
        var us = new double[Repetitions];
        for (int turn = -Warmup; turn < Repetitions; turn++)
        {
            start.Record(_gpu.Stream);
            _gpu.Stream.Copy(to.Address, from.Address, Bytes);
            end.Record(_gpu.Stream);
            end.Synchronize();
            if (turn >= 0) us[turn] = end.Since(start).TotalMicroseconds;
        }
        return 2 * Bytes / us.Order().ElementAt(Repetitions / 2) / 1e3;
    }

    private double Fraction(long rows, int rowBytes, double[] us) =>
        Math.Round(((Ranks * (long)Tokens) + rows) * rowBytes / us.Order().ElementAt(Repetitions / 2) / 1e3 / _copyGBps, 3);

    private static Dictionary<string, double> Percentiles(double[] us) =>
        new() { ["p50"] = Math.Round(us.Order().ElementAt(Repetitions / 2), 2), ["p99"] = Math.Round(us.Max(), 2) };

    private static int RowBytes(string element) => element switch { "bf16" => 2 * Hidden, "fp8" => Hidden, _ => 16 };

    private List<(int Source, int Token)> ExpectedRows(int[][] choices, int rank)
    {
        var rows = new List<(int, int)>();
        for (int source = 0; source < Ranks; source++)
        {
            for (int token = 0; token < Tokens; token++)
            {
                if (choices[source].AsSpan(token * TopK, TopK).ToArray().Any(expert => expert >= 0 && expert * Ranks / Experts == rank)) rows.Add((source, token));
            }
        }
        return rows;
    }

    private int[] Choose(string routing, int rank)
    {
        if (routing.StartsWith("no ", StringComparison.Ordinal)) return [.. Enumerable.Repeat(-1, Tokens * TopK)];
        var random = new Random(rank);
        int[] choices = new int[Tokens * TopK];
        int experts = routing == "one-rank" ? Experts / Ranks : Experts;
        double skew = routing.StartsWith("zipf:", StringComparison.Ordinal) ? double.Parse(routing[5..], CultureInfo.InvariantCulture) : 0;
        double[] logs = [.. Enumerable.Range(0, experts).Select(expert => -skew * Math.Log(expert + 1))];
        double[] keys = new double[experts];
        int[] order = new int[experts];
        for (int token = 0; token < Tokens; token++)
        {
            // The largest of perturbed logarithms are draws without replacement.
            for (int expert = 0; expert < experts; expert++) (keys[expert], order[expert]) = (Math.Log(-Math.Log(random.NextDouble())) - logs[expert], expert);
            Array.Sort(keys, order);
            order.AsSpan(0, TopK).CopyTo(choices.AsSpan(token * TopK));
        }
        return choices;
    }

    /// <summary>Numbers of many sizes, none of them infinite or NaN.</summary>
    private static ushort[] DrawRows(int rank)
    {
        ushort[] rows = new ushort[Tokens * Hidden];
        new Random(100 + rank).NextBytes(MemoryMarshal.AsBytes(rows.AsSpan()));
        for (int i = 0; i < rows.Length; i++) rows[i] = (ushort)((rows[i] & 0x83FF) | 0x3C00);
        return rows;
    }

    private static ReadOnlyTensorView View(DeviceMemory memory, int rowLength, ElementType element, int tokens = Tokens) =>
        ReadOnlyTensorView.FromPointer(memory.Address, tokens, rowLength, rowLength, element, device: 0);

    private static unsafe DeviceMemory Upload<T>(CudaRuntime runtime, T[] values)
        where T : unmanaged
    {
        var memory = new DeviceMemory(runtime, values.Length * (long)sizeof(T));
        Write<T>(memory, values);
        return memory;
    }

    private static unsafe void Write<T>(DeviceMemory memory, T[] values)
        where T : unmanaged
    {
        fixed (T* source = values) CudaRuntime.Of(0).CopyNow(memory.Address, (nint)source, values.Length * (long)sizeof(T));
    }

    private static unsafe T[] Read<T>(nint address, int count)
        where T : unmanaged
    {
        var values = new T[count];
        fixed (T* target = values) CudaRuntime.Of(0).CopyNow((nint)target, address, count * (long)sizeof(T));
        return values;
    }
}

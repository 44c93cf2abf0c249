using Switchyard.Cli.Bench.Report;
using Switchyard.Cuda.Driver;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>What the driver's copies reach between two devices, one way and both ways at once: what the exchange over them can be held against.</summary>
internal static class LinkMeter
{
    private const long Bytes = 1L << 30;
    private const int Repetitions = 11;
    private const int Warmup = 2;

    /// <summary>Each pair of devices; nothing else may use them meanwhile.</summary>
    public static List<LinkMeasurement> Measure(IReadOnlyList<int> devices) =>
        [.. from first in Enumerable.Range(0, devices.Count) from second in Enumerable.Range(first + 1, devices.Count - first - 1) select Measure(devices[first], devices[second])];

    private static LinkMeasurement Measure(int first, int second)
    {
        using var one = new End(first);
        using var other = new End(second);
        using var there = new Way(one, other, seed: 1);
        using var back = new Way(other, one, seed: 3);
        double oneWay = Rate([there]), bothWays = Rate([there, back]);
        return new LinkMeasurement
        {
            Devices = [first, second],
            Bytes = Bytes,
            Verified = there.IsRight && back.IsRight,
            OneWayGBps = oneWay,
            BothWaysGBps = bothWays,
            Device = string.Join(", ", new[] { one.Device.Name, other.Device.Name }.Distinct()),
            Driver = $"CUDA {CudaDriver.Readable(CudaDriver.Version)}",
        };
    }

    /// <summary>By the slowest of the ways: events of two devices cannot be compared.</summary>
    private static double Rate(Way[] ways)
    {
        var microseconds = new double[Repetitions];
        for (int turn = -Warmup; turn < Repetitions; turn++)
        {
            foreach (Way way in ways) way.Enqueue();
            double slowest = ways.Max(way => way.Finish().TotalMicroseconds);
            if (turn >= 0) microseconds[turn] = slowest;
        }
        return Math.Round(Bytes / microseconds.Order().ElementAt(Repetitions / 2) / 1e3, 1);
    }

    /// <summary>A device at one end. Its context goes with it, so that the ranks that come after have all of the device.</summary>
    private sealed class End : IDisposable
    {
        public End(int ordinal)
        {
            Device = CudaDevice.Get(ordinal);
            Context = CudaContext.Retain(Device);
            Stream = CudaStream.Create(Context);
        }

        public CudaDevice Device { get; }

        public CudaContext Context { get; }

        public CudaStream Stream { get; }

        public void Dispose()
        {
            Stream.Dispose();
            Context.Dispose();
        }
    }

    /// <summary>From one end to the other, pushed by the first.</summary>
    private sealed class Way : IDisposable
    {
        private readonly CudaStream _stream;
        private readonly CopyBlock _source;
        private readonly CopyBlock _target;
        private readonly CudaEvent _start;
        private readonly CudaEvent _end;

        public Way(End from, End to, int seed)
        {
            _stream = from.Stream;
            _source = new CopyBlock(from.Stream, Bytes, seed);
            _target = new CopyBlock(to.Stream, Bytes, seed + 1, from.Device);
            _start = CudaEvent.Create(from.Context, timing: true);
            _end = CudaEvent.Create(from.Context, timing: true);
        }

        public bool IsRight => _target.LooksLike(_source);

        public void Enqueue()
        {
            _start.Record(_stream);
            _stream.Copy(_target.Address, _source.Address, Bytes);
            _end.Record(_stream);
        }

        public TimeSpan Finish()
        {
            _end.Synchronize();
            return _end.Since(_start);
        }

        public void Dispose()
        {
            _source.Dispose();
            _target.Dispose();
            _start.Dispose();
            _end.Dispose();
        }
    }
}

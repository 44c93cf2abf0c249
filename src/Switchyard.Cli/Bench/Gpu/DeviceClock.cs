using System.Diagnostics;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>
/// What events say, for the ranks of one process. Those of one device in one process can be compared: where all ranks are there, their
/// intervals are on one clock, which starts before they meet. Elsewhere each rank's begin at its own start, so that the last end is the time
/// of the slowest.
/// </summary>
internal sealed class DeviceClock : IDisposable
{
    private readonly CudaEvent? _origin;

    public DeviceClock(Shape shape)
    {
        if (!shape.Processes && shape.UsedDevices.Count == 1)
            _origin = CudaEvent.Create(CudaRuntime.Of(shape.UsedDevices[0]).Context, timing: true);
    }

    /// <summary>Enqueues the origin of a phase's times, before the ranks meet.</summary>
    public void Begin(int rank, CudaStream stream)
    {
        if (rank == 0) _origin?.Record(stream);
    }

    /// <summary>Both events are done, and a next phase has not begun.</summary>
    public Interval Between(CudaEvent start, CudaEvent end)
    {
        CudaEvent origin = _origin ?? start;
        return new Interval(Ticks(start.Since(origin)), Ticks(end.Since(origin)));
    }

    public void Dispose() => _origin?.Dispose();

    private static long Ticks(TimeSpan time) => time.Ticks * (Stopwatch.Frequency / TimeSpan.TicksPerSecond);
}

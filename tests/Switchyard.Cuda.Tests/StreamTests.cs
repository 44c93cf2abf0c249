using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

public sealed class StreamTests
{
    private const long LongFill = 4L << 30; // more than a millisecond of any device's memory

    [Fact]
    public void An_event_orders_one_stream_after_another()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(LongFill);
        using CudaStream other = CudaStream.Create(gpu.Context);
        using CudaEvent filled = CudaEvent.Create(gpu.Context);
        gpu.Stream.Fill(bytes.Address, 1, LongFill);
        filled.Record(gpu.Stream);
        other.WaitFor(filled);
        other.Fill((nint)(bytes.Address + LongFill - 64), 2, 64);
        other.Synchronize();
        gpu.Stream.Synchronize();
        Assert.True(filled.IsDone);
        Assert.Equal([1, 2], bytes.Read<byte>(2, LongFill - 65));
    }

    [Fact]
    public void Events_tell_time_and_streams_tell_whether_they_are_idle()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(LongFill);
        using CudaEvent start = CudaEvent.Create(gpu.Context, timing: true), end = CudaEvent.Create(gpu.Context, timing: true);
        start.Record(gpu.Stream);
        gpu.Stream.Fill(bytes.Address, 0, LongFill);
        end.Record(gpu.Stream);
        Assert.False(gpu.Stream.IsIdle);
        Assert.False(end.IsDone);
        end.Synchronize();
        gpu.Stream.Synchronize();
        Assert.True(gpu.Stream.IsIdle);
        Assert.InRange(end.Since(start).TotalMilliseconds, 0.2, 1000);
    }

    [Fact]
    public void A_borrowed_stream_is_not_destroyed()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(64);
        CudaStream borrowed = CudaStream.Borrow(gpu.Context, gpu.Stream.Handle), standard = CudaStream.Borrow(gpu.Context, 0);
        standard.Fill(bytes.Address, 1, 64);
        standard.Synchronize();
        borrowed.Dispose();
        standard.Dispose();
        Assert.Throws<ObjectDisposedException>(() => borrowed.Synchronize());
        Assert.All(bytes.Read<byte>(64), each => Assert.Equal(1, each));
    }

    [Fact]
    public void A_captured_launch_runs_again_and_again()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(2 << 20);
        DeviceRows source = new(bytes.Address, 16, 1024), target = new(bytes.Address + (1 << 20), 16, 1024);
        Assert.False(gpu.Stream.IsCapturing);
        using Graph graph = Graph.Capture(gpu.Stream, () =>
        {
            Assert.True(gpu.Stream.IsCapturing);
            gpu.Kernels.CopyRows.Enqueue(gpu.Stream, source, target);
        });
        Assert.Equal(CudaBytes.Fresh, bytes.Read<byte>(1, 1 << 20)[0]);
        foreach (byte value in new byte[] { 3, 4 })
        {
            bytes.Write<byte>(Enumerable.Repeat(value, 16 * 1024).ToArray());
            graph.Launch(gpu.Stream);
            Assert.All(bytes.Read<byte>(16 * 1024, 1 << 20), each => Assert.Equal(value, each));
        }
    }
}

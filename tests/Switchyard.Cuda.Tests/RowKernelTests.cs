using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>copy_rows, in odd shapes: every row is there, and nothing beside the rows is touched.</summary>
[Trait("Suite", PressureTests.Reduced)]
public sealed class RowKernelTests
{
    [Theory, Trait("Races", "Shared")]
    [InlineData(1, 16, 0, 0, 0)]
    [InlineData(1000, 48, 16, 0, 0)]
    [InlineData(4099, 14336, 0, 64, 0)]
    [InlineData(37, 14336, 0, 0, 1)]
    [InlineData(3, 16400, 0, 16, 2)] // a row in two pieces
    [InlineData(5, 1 << 20, 32, 0, 3)]
    [InlineData(700, 7168, 0, 0, 16)]
    public void Rows_arrive_and_gaps_are_left_alone(int count, int rowBytes, int sourceGap, int targetGap, int blocks)
    {
        using var gpu = new Gpu();
        long sourceStride = rowBytes + sourceGap, targetStride = rowBytes + targetGap;
        using CudaBytes source = gpu.Allocate(count * sourceStride), target = gpu.Allocate((count * targetStride) + 64);
        var sent = new byte[count * sourceStride];
        new Random(count).NextBytes(sent);
        source.Write<byte>(sent);
        gpu.Kernels.CopyRows.Enqueue(
            gpu.Stream, new DeviceRows(source.Address, count, sourceStride, rowBytes), new DeviceRows(target.Address, count, targetStride, rowBytes), blocks);
        byte[] received = target.Read<byte>((int)((count * targetStride) + 64));
        for (int row = 0; row < count; row++)
        {
            Span<byte> there = received.AsSpan((int)(row * targetStride), (int)targetStride);
            Assert.True(there[..rowBytes].SequenceEqual(sent.AsSpan((int)(row * sourceStride), rowBytes)), $"row {row}");
            Assert.Equal(-1, there[rowBytes..].IndexOfAnyExcept(CudaBytes.Fresh));
        }
        Assert.Equal(-1, received.AsSpan(^64..).IndexOfAnyExcept(CudaBytes.Fresh));
    }

    [Fact]
    public void Kernels_that_overlap_see_what_came_before_them()
    {
        using var gpu = new Gpu();
        const int RowBytes = 8192, Count = 2048, Turns = 20;
        using CudaBytes bytes = gpu.Allocate((Turns + 1) * RowBytes * Count);
        DeviceRows At(int turn) => new(bytes.Address + (turn * RowBytes * Count), Count, RowBytes);
        var sent = new byte[RowBytes * Count];
        new Random(1).NextBytes(sent);
        bytes.Write<byte>(sent);
        for (int turn = 0; turn < Turns; turn++) gpu.Kernels.CopyRows.Enqueue(gpu.Stream, At(turn), At(turn + 1), overlap: true);
        Assert.True(bytes.Read<byte>(RowBytes * Count, Turns * RowBytes * Count).AsSpan().SequenceEqual(sent));
    }

    [Theory]
    [InlineData(10, 32, 0)]
    [InlineData(10, 32, 4)]
    [InlineData(1000, 14336, 999)]
    [InlineData(5, 16400, 2)] // rows in two pieces
    [InlineData(7, 64, 7)]
    [InlineData(7, 64, 1000)]
    public void Rows_that_the_device_says_are_there_are_copied_and_no_others(int count, int rowBytes, long there)
    {
        using var gpu = new Gpu();
        using CudaBytes source = gpu.Allocate(count * rowBytes), target = gpu.Allocate(count * rowBytes), number = gpu.Allocate(64);
        gpu.Stream.Fill(source.Address, 1, count * rowBytes);
        number.Write<long>([there]);
        gpu.Kernels.CopyRows.Enqueue(gpu.Stream, new DeviceRows(source.Address, count, rowBytes), new DeviceRows(target.Address, count, rowBytes), rowsThere: number.Address);
        byte[] found = target.Read<byte>(count * rowBytes);
        int copied = (int)Math.Min(there, count) * rowBytes;
        Assert.Equal(-1, found.AsSpan(0, copied).IndexOfAnyExcept((byte)1));
        Assert.Equal(-1, found.AsSpan(copied).IndexOfAnyExcept(CudaBytes.Fresh));
    }

    [Fact]
    public void Rows_that_kernels_cannot_move_are_argument_errors()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        var good = new DeviceRows(bytes.Address, 4, 64);
        foreach (DeviceRows bad in new[] { good with { Address = good.Address + 8 }, good with { RowBytes = 40 }, good with { Stride = 72 }, good with { Stride = 48 }, good with { Count = -1 }, good with { RowBytes = 0 } })
            Assert.ThrowsAny<ArgumentException>(() => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, bad, good));
        Assert.Throws<ArgumentException>(() => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, good, good with { Count = 3 }));
        gpu.Kernels.CopyRows.Enqueue(gpu.Stream, good with { Count = 0 }, good with { Count = 0 });
        gpu.Stream.Synchronize();
    }

    [Fact]
    public void What_a_call_enqueues_allocates_nothing()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        using CudaEvent copied = CudaEvent.Create(gpu.Context);
        using CudaStream other = CudaStream.Create(gpu.Context);
        DeviceRows rows = new(bytes.Address, 4, 64);
        long before = 0;
        for (int turn = 0; turn < 1100; turn++)
        {
            if (turn == 100) before = GC.GetAllocatedBytesForCurrentThread();
            gpu.Kernels.CopyRows.Enqueue(gpu.Stream, rows, rows with { Address = rows.Address + 16384 }, overlap: true);
            copied.Record(gpu.Stream);
            other.WaitFor(copied);
            gpu.Kernels.CopyRows.Enqueue(other, rows, rows with { Address = rows.Address + 4096 });
            other.Fill(rows.Address + 8192, 1, 64);
            other.Copy(rows.Address + 12288, rows.Address + 8192, 64);
            if (other.IsCapturing || PointerInfo.Of(gpu.Context, rows.Address).Kind != PointerKind.Device) throw new InvalidDataException("wrong");
        }
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        other.Synchronize();
    }
}

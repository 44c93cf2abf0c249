using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>copy_rows and fill_rows, in odd shapes: every row is there, and nothing beside the rows is touched.</summary>
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
        const int RowBytes = 8192, Count = 2048;
        using CudaBytes one = gpu.Allocate(RowBytes * Count), other = gpu.Allocate(RowBytes * Count);
        DeviceRows first = new(one.Address, Count, RowBytes), second = new(other.Address, Count, RowBytes);
        for (uint turn = 1; turn <= 20; turn++)
        {
            gpu.Kernels.FillRows.Enqueue(gpu.Stream, first, turn, overlap: true);
            gpu.Kernels.CopyRows.Enqueue(gpu.Stream, first, second, overlap: true);
        }
        Assert.Equal(-1, other.Read<uint>(RowBytes * Count / 4).AsSpan().IndexOfAnyExcept(20u));
    }

    [Theory]
    [InlineData(10, 32, 16, -1)]
    [InlineData(10, 32, 16, 4)]
    [InlineData(1000, 14336, 0, 999)]
    [InlineData(7, 64, 0, 7)]
    [InlineData(7, 64, 0, 1000)]
    public void Rows_from_the_first_are_filled_and_no_others(int count, int rowBytes, int gap, int first)
    {
        using var gpu = new Gpu();
        long stride = rowBytes + gap;
        using CudaBytes rows = gpu.Allocate(count * stride), number = gpu.Allocate(64);
        number.Write<int>([first]);
        gpu.Kernels.FillRows.Enqueue(gpu.Stream, new DeviceRows(rows.Address, count, stride, rowBytes), FillRowsKernel.Poison, first < 0 ? 0 : number.Address);
        byte[] found = rows.Read<byte>((int)(count * stride));
        for (int row = 0; row < count; row++)
        {
            Span<byte> there = found.AsSpan((int)(row * stride), (int)stride);
            Assert.Equal(-1, there[..rowBytes].IndexOfAnyExcept(row >= first ? (byte)0xFF : CudaBytes.Fresh));
            Assert.Equal(-1, there[rowBytes..].IndexOfAnyExcept(CudaBytes.Fresh));
        }
    }

    [Fact]
    public void Rows_that_kernels_cannot_move_are_argument_errors()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        var good = new DeviceRows(bytes.Address, 4, 64);
        foreach (DeviceRows bad in new[] { good with { Address = good.Address + 8 }, good with { RowBytes = 40 }, good with { Stride = 72 }, good with { Stride = 48 }, good with { Count = -1 }, good with { RowBytes = 0 } })
        {
            Assert.ThrowsAny<ArgumentException>(() => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, bad, good));
            Assert.ThrowsAny<ArgumentException>(() => gpu.Kernels.FillRows.Enqueue(gpu.Stream, bad, 0));
        }
        Assert.Throws<ArgumentException>(() => gpu.Kernels.CopyRows.Enqueue(gpu.Stream, good, good with { Count = 3 }));
        gpu.Kernels.CopyRows.Enqueue(gpu.Stream, good with { Count = 0 }, good with { Count = 0 });
        gpu.Stream.Synchronize();
    }

    [Fact]
    public void What_a_call_enqueues_allocates_nothing()
    {
        using var gpu = new Gpu();
        using CudaBytes bytes = gpu.Allocate(1 << 20);
        using CudaEvent filled = CudaEvent.Create(gpu.Context);
        using CudaStream other = CudaStream.Create(gpu.Context);
        DeviceRows rows = new(bytes.Address, 4, 64);
        long before = 0;
        for (int turn = 0; turn < 1100; turn++)
        {
            if (turn == 100) before = GC.GetAllocatedBytesForCurrentThread();
            gpu.Kernels.FillRows.Enqueue(gpu.Stream, rows, (uint)turn, overlap: true);
            filled.Record(gpu.Stream);
            other.WaitFor(filled);
            gpu.Kernels.CopyRows.Enqueue(other, rows, rows with { Address = rows.Address + 4096 });
            other.Fill(rows.Address + 8192, 1, 64);
            other.Copy(rows.Address + 12288, rows.Address + 8192, 64);
            if (other.IsCapturing || PointerInfo.Of(gpu.Context, rows.Address).Kind != PointerKind.Device) throw new InvalidDataException("wrong");
        }
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        other.Synchronize();
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;
using Switchyard.Rendezvous;

namespace Switchyard.Cuda.Tests;

/// <summary>Two ranks in two processes: each hands the other its memory, writes into the other's, meets it, and reads its own.</summary>
internal sealed unsafe class PeerProcess : IDisposable
{
    private const int StateOffset = 1024;
    private const int DataOffset = 4096;
    private const int DataBytes = 1 << 20;
    private static readonly TimeSpan _ample = TimeSpan.FromSeconds(60);
    private readonly Process _process;

    private PeerProcess(Process process) => _process = process;

    public static PeerProcess Start(string path)
    {
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "Switchyard.Cuda.Tests"));
        start.ArgumentList.Add("peer");
        start.ArgumentList.Add(path);
        return new PeerProcess(Process.Start(start)!);
    }

    /// <summary>The other process: rank 1.</summary>
    public static int Run(string path)
    {
        using var gpu = new Gpu();
        using PacketSocket socket = Await(() => PacketSocket.TryConnect(path));
        return Meet(gpu, socket, rank: 1).Cause == BarrierCause.None ? 0 : 1;
    }

    /// <summary>One rank's part, in either process. Throws where its memory does not hold what the other wrote.</summary>
    public static BarrierRecord Meet(Gpu gpu, PacketSocket socket, int rank)
    {
        using CudaBytes own = gpu.Allocate(DataOffset + DataBytes);
        using PinnedMemory record = PinnedMemory.Allocate(gpu.Context, sizeof(BarrierRecord));
        own.Clear();
        using PhysicalMemory theirs = Exchange(gpu, socket, own);
        using MappedMemory window = MappedMemory.Map(theirs, gpu.Device);

        BarrierArgs args = new()
        {
            State = own.Address + StateOffset,
            Record = record.DeviceAddress,
            TimeoutNs = (ulong)_ample.TotalNanoseconds,
            Rank = (uint)rank,
            Ranks = 2,
            Rounds = 3,
        };
        args.Boards[rank] = own.Address;
        args.Boards[1 - rank] = window.Handle;
        gpu.Stream.Fill(window.Handle + DataOffset, (byte)(100 + rank), DataBytes);
        gpu.Kernels.Barrier.Enqueue(gpu.Stream, args, blocks: 4);
        gpu.Stream.Synchronize();
        Assert.Equal(-1, own.Read<byte>(DataBytes, DataOffset).AsSpan().IndexOfAnyExcept((byte)(101 - rank)));
        return *(BarrierRecord*)record.Handle;
    }

    public static T Await<T>(Func<T?> find)
        where T : class
    {
        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < _ample)
        {
            if (find() is { } found) return found;
            Thread.Sleep(5);
        }
        throw new TimeoutException($"The other process did not answer within {_ample}.");
    }

    public int WaitForExit()
    {
        Assert.True(_process.WaitForExit(_ample), "the other process did not end");
        return _process.ExitCode;
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static PhysicalMemory Exchange(Gpu gpu, PacketSocket socket, CudaBytes own)
    {
        using SafeFileHandle descriptor = own.Memory.Export();
        long bytes = own.Bytes;
        Assert.Equal(SendResult.Sent, socket.Send(MemoryMarshal.AsBytes(new ReadOnlySpan<long>(in bytes)), descriptors: [(int)descriptor.DangerousGetHandle()]));
        List<SafeFileHandle> received = [];
        byte[] packet = Await(() =>
        {
            var buffer = new byte[sizeof(long)];
            int length = socket.Receive(buffer, received);
            Assert.True(length is -1 or sizeof(long), $"received {length} bytes");
            return length > 0 ? buffer : null;
        });
        using SafeFileHandle theirs = Assert.Single(received);
        return PhysicalMemory.Import(theirs, gpu.Device, MemoryMarshal.Read<long>(packet));
    }
}

using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>Ranks of one process that meet at barriers, each with a stream of its own.</summary>
internal sealed unsafe class BarrierRanks : IDisposable
{
    private const int StateOffset = 1024;
    private readonly Gpu[] _gpus;
    private readonly CudaBytes[] _memory;
    private readonly PinnedMemory[] _records;

    /// <param name="gpus">The device of each rank; they can access each other's memory.</param>
    public BarrierRanks(Gpu[] gpus)
    {
        _gpus = gpus;
        CudaDevice[] devices = [.. gpus.Select(gpu => gpu.Device).DistinctBy(device => device.Ordinal)];
        _memory = [.. gpus.Select(gpu => new CudaBytes(gpu, 4096, [.. devices.Where(device => device.Ordinal != gpu.Device.Ordinal)]))];
        _records = [.. gpus.Select(gpu => PinnedMemory.Allocate(gpu.Context, sizeof(BarrierRecord)))];
        Streams = [.. gpus.Select(gpu => CudaStream.Create(gpu.Context))];
        foreach (CudaBytes each in _memory) each.Clear();
    }

    public CudaStream[] Streams { get; }

    public IEnumerable<BarrierRecord> Records => _records.Select(each => *(BarrierRecord*)each.Handle);

    /// <summary>The barriers that each rank came to.</summary>
    public IEnumerable<ulong> Epochs => _memory.Select(each => each.Read<ulong>(1, StateOffset)[0]);

    /// <summary>The last barrier of <paramref name="other"/> that <paramref name="rank"/> was told of.</summary>
    public ulong Arrived(int rank, int other) => _memory[rank].Read<ulong>(1, other * sizeof(ulong))[0];

    public static BarrierRanks OnOne(Gpu gpu, int count) => new([.. Enumerable.Repeat(gpu, count)]);

    public void Enqueue(int rank, int blocks, TimeSpan timeout, int rounds = 1, bool overlap = false)
    {
        var args = new BarrierArgs
        {
            State = _memory[rank].Address + StateOffset,
            Record = _records[rank].DeviceAddress,
            TimeoutNs = (ulong)timeout.TotalNanoseconds,
            Rank = (uint)rank,
            Ranks = (uint)_gpus.Length,
            Rounds = (uint)rounds,
        };
        for (int each = 0; each < _memory.Length; each++) args.Boards[each] = _memory[each].Address;
        _gpus[rank].Kernels.Barrier.Enqueue(Streams[rank], args, blocks, overlap);
    }

    public void EnqueueAll(int blocks, int rounds = 1)
    {
        for (int rank = 0; rank < _gpus.Length; rank++) Enqueue(rank, blocks, TimeSpan.FromSeconds(20), rounds);
    }

    /// <summary>Ends the waits of <paramref name="rank"/>, in the name of <paramref name="other"/>.</summary>
    public void RaiseAbort(int rank, int other) => _memory[rank].Write<ulong>([(ulong)other + 1], BarrierBoard.AbortOffset);

    public void Synchronize()
    {
        foreach (CudaStream stream in Streams) stream.Synchronize();
    }

    public void Dispose()
    {
        foreach (CudaStream stream in Streams) stream.Dispose();
        foreach (PinnedMemory record in _records) record.Dispose();
        foreach (CudaBytes each in _memory) each.Dispose();
    }
}

using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;
using Switchyard.Rendezvous;
using Switchyard.Transports;

namespace Switchyard.Cli.Bench.Gpu;

/// <summary>
/// Lets all ranks come together on their devices, as one kernel of each: barriers in a row, in memory that is shared as arenas are. So many
/// that the host has enqueued what is to be timed, on all ranks, before they end.
/// </summary>
internal sealed class Meeting : IDisposable
{
    private const int StateOffset = 1024;
    private const int Bytes = StateOffset + BarrierState.Bytes;

    /// <summary>More than half a millisecond.</summary>
    private const int Rounds = 500;

    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);

    private readonly CudaRuntime _runtime;
    private readonly ArenaMemory[] _boards;
    private readonly PinnedMemory _record;
    private readonly BarrierArgs _args;

    private unsafe Meeting(CudaRuntime runtime, ArenaMemory[] boards, int rank, int rounds, nint ended)
    {
        _runtime = runtime;
        _boards = boards;
        _record = PinnedMemory.Allocate(runtime.Context, sizeof(BarrierRecord));
        _args = new BarrierArgs
        {
            State = boards[rank].Address + StateOffset,
            Record = _record.DeviceAddress,
            Ended = ended,
            TimeoutNs = (ulong)_patience.TotalNanoseconds,
            Rank = (uint)rank,
            Ranks = (uint)boards.Length,
            Rounds = (uint)rounds,
        };
        for (int each = 0; each < boards.Length; each++) _args.Boards[each] = boards[each].Address;
    }

    /// <summary>Collective.</summary>
    /// <param name="group">The group.</param>
    /// <param name="runtime">This rank's device.</param>
    /// <param name="transport">What shares its memory.</param>
    /// <param name="takesTurns">
    /// Whether processes share a device: it serves one at a time, and a barrier takes as many of their turns as there are.
    /// </param>
    /// <param name="ended">Where the device notes the time at which a meeting has ended.</param>
    public static async Task<Meeting> CreateAsync(ExpertGroup group, CudaRuntime runtime, IScaleUpTransport transport, bool takesTurns, nint ended)
    {
        ArenaMemory mine = transport.Allocate(Bytes);
        using var export = ArenaExport.Of(mine);
        Gathered[] all = await group.Channel.AllGatherAsync(transport.Place, export, default);
        ArenaMemory[] boards = [.. all.Select(each => transport.Map(each.Arena!, each.Payload))];
        foreach (Gathered each in all) each.Arena!.Dispose();
        await group.BarrierAsync();
        mine.Release();
        return new Meeting(runtime, boards, group.Rank, takesTurns ? 1 : Rounds, ended);
    }

    public void Enqueue(CudaStream stream) => _runtime.Kernels.Barrier.Enqueue(stream, _args, blocks: 1);

    /// <summary>Throws unless all came to the meetings that the stream has behind it.</summary>
    public unsafe void RequireAllCame()
    {
        BarrierRecord record = *(BarrierRecord*)_record.Handle;
        if (record.Cause != BarrierCause.None)
            throw new TimeoutException($"Rank {record.Rank} did not come to a meeting on the devices within {_patience.TotalSeconds} s: {record.Cause}.");
    }

    public void Dispose()
    {
        _record.Dispose();
        foreach (ArenaMemory board in _boards) board.Release();
    }
}

using System.Numerics;
using System.Runtime.InteropServices;
using Switchyard.Rendezvous;

namespace Switchyard;

/// <summary>
/// One rank's membership in a group of ranks that exchange tokens. Ranks are threads of one process (<see cref="CreateLocal"/>)
/// or processes of one machine (<see cref="JoinAsync"/>). A group can hold several buffers.
/// </summary>
/// <remarks>
/// The collective calls (barrier, all-gather, all-reduce and <see cref="ExpertBuffer.CreateAsync"/>) are made by all ranks in the
/// same order, one at a time on each rank. They are for control data and small vectors, not for bulk.
/// </remarks>
public sealed class ExpertGroup : IAsyncDisposable, IDisposable
{
    internal ExpertGroup(GroupChannel channel) => Channel = channel;

    /// <summary>This rank's index, from 0.</summary>
    public int Rank => Channel.Rank;

    /// <summary>The number of ranks.</summary>
    public int Size => Channel.Size;

    /// <summary>All ranks, this one included, by rank.</summary>
    public IReadOnlyList<PeerInfo> Peers => Channel.Peers;

    /// <summary>
    /// How long a collective call of the group, <see cref="ExpertBuffer.CreateAsync"/> included, waits for the other ranks. Default 5 minutes.
    /// When it passes, the call fails with <see cref="PeerTimeoutException"/> naming the first rank that is missing, and the group is unusable.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Not positive, or more than a day.</exception>
    public TimeSpan Deadline
    {
        get => Channel.Deadline;
        set
        {
            ExpertBufferOptions.RequireDeadline(value);
            Channel.Deadline = value;
        }
    }

    internal GroupChannel Channel { get; }

    /// <summary>Makes a group of ranks in this process, to be driven by one thread each.</summary>
    /// <param name="size">The ranks, 1 to <see cref="Limits.MaxRanks"/>.</param>
    /// <returns>One membership a rank, by rank.</returns>
    public static ExpertGroup[] CreateLocal(int size)
    {
        RequireSize(size, nameof(size));
        return [.. LocalChannel.CreateAll(size).Select(channel => new ExpertGroup(channel))];
    }

    /// <summary>Joins this process to its group: returns when all ranks are there.</summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="JoinException">This rank was refused, or the others did not come before <see cref="ExpertGroupOptions.JoinTimeout"/>.</exception>
    public static async Task<ExpertGroup> JoinAsync(ExpertGroupOptions options, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        return new ExpertGroup(await ControlChannel.JoinAsync(options, ct).ConfigureAwait(false));
    }

    /// <summary>Returns when all ranks have called it.</summary>
    /// <exception cref="PeerLostException">A rank is gone.</exception>
    public Task BarrierAsync(CancellationToken ct = default) => Channel.AllGatherAsync(ReadOnlyMemory<byte>.Empty, null, ct);

    /// <summary>Gives every rank the bytes of every rank, by rank. Lengths may differ.</summary>
    /// <exception cref="PeerLostException">A rank is gone.</exception>
    public async Task<byte[][]> AllGatherAsync(ReadOnlyMemory<byte> payload, CancellationToken ct = default)
    {
        Gathered[] all = await Channel.AllGatherAsync(payload, null, ct).ConfigureAwait(false);
        return [.. all.Select(each => each.Payload)];
    }

    /// <summary>
    /// Replaces each rank's vector by the sum over all ranks, added one rank after another from rank 0: bit-identical on all ranks
    /// and from run to run.
    /// </summary>
    /// <typeparam name="T">A number type; the sum is formed in it.</typeparam>
    /// <param name="values">This rank's addend, replaced by the sum. All ranks give the same length.</param>
    /// <param name="ct">Cancels the wait; the group is unusable after that.</param>
    /// <exception cref="CallMismatchException">A rank gave another length; thrown on all ranks.</exception>
    /// <exception cref="PeerLostException">A rank is gone.</exception>
    public async Task AllReduceSumAsync<T>(Memory<T> values, CancellationToken ct = default)
        where T : unmanaged, INumberBase<T>
    {
        byte[] mine = MemoryMarshal.AsBytes(values.Span).ToArray();
        Gathered[] all = await Channel.AllGatherAsync(mine, null, ct).ConfigureAwait(false);
        for (int rank = 1; rank < all.Length; rank++)
        {
            if (all[rank].Payload.Length != all[0].Payload.Length)
            {
                string difference = $"the all-reduce is over {all[0].Payload.Length} and {all[rank].Payload.Length} bytes";
                throw new CallMismatchException(0, rank, difference, new CallSite(Operation.None, CallPhase.Create, 0));
            }
        }
        AddInRankOrder(all, values.Span);
    }

    internal static void RequireSize(int size, string name)
    {
        if (size is < 1 or > Limits.MaxRanks)
            throw new ArgumentOutOfRangeException(name, size, $"A group has 1 to {Limits.MaxRanks} ranks.");
    }

    /// <summary>Leaves the group: tells the peers, waits for nobody. Dispose the group's buffers first.</summary>
    public void Dispose() => Channel.Dispose();

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    private static void AddInRankOrder<T>(Gathered[] all, Span<T> sum)
        where T : unmanaged, INumberBase<T>
    {
        MemoryMarshal.Cast<byte, T>(all[0].Payload).CopyTo(sum);
        foreach (Gathered addend in all.AsSpan(1))
        {
            ReadOnlySpan<T> values = MemoryMarshal.Cast<byte, T>(addend.Payload);
            for (int i = 0; i < sum.Length; i++) sum[i] += values[i];
        }
    }
}

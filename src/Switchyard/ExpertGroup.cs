using System.Numerics;
using System.Runtime.InteropServices;
using Switchyard.Interop;
using Switchyard.Rendezvous;
using Switchyard.Rendezvous.Bootstrap;
using Switchyard.Rendezvous.Network;

namespace Switchyard;

/// <summary>
/// One rank's membership in a group of ranks that exchange tokens. Ranks are threads of one process (<see cref="CreateLocal"/>)
/// or processes (<see cref="JoinAsync(ExpertGroupOptions, CancellationToken)"/>). A group can hold several buffers.
/// </summary>
/// <remarks>
/// The collective calls (barrier, all-gather, all-reduce and <see cref="ExpertBuffer.CreateAsync"/>) are made by all ranks in the
/// same order, one at a time on each rank. They are for control data and small vectors, not for bulk.
/// </remarks>
public sealed class ExpertGroup : IAsyncDisposable, IDisposable
{
    internal ExpertGroup(GroupChannel channel, IReadOnlyList<int>? formerRanks = null)
    {
        Channel = channel;
        channel.IsHandedOut = true;
        FormerRanks = formerRanks ?? [];
    }

    /// <summary>This rank's index, from 0.</summary>
    public int Rank => Channel.Rank;

    /// <summary>The number of ranks.</summary>
    public int Size => Channel.Size;

    /// <summary>All ranks, this one included, by rank.</summary>
    public IReadOnlyList<PeerInfo> Peers => Channel.Peers;

    /// <summary>Counts the memberships of the job: 1, and one more with each rebuild.</summary>
    public long Generation => Channel.Generation;

    /// <summary>
    /// By rank: the rank that each member had in the group that this one was made from by <see cref="RebuildAsync"/> or <see cref="GrowAsync"/>, -1
    /// for a newcomer. Empty in a group that was joined.
    /// </summary>
    public IReadOnlyList<int> FormerRanks { get; }

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

    /// <summary>
    /// Joins this process to its group: returns when all ranks are there. They meet in <see cref="ExpertGroupOptions.Directory"/>, or
    /// at <see cref="ExpertGroupOptions.Address"/> if that is given.
    /// </summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TransportException">The process may not open as many descriptors as the group needs.</exception>
    /// <exception cref="JoinException">This rank was refused, or the others did not come before <see cref="ExpertGroupOptions.JoinTimeout"/>.</exception>
    public static async Task<ExpertGroup> JoinAsync(ExpertGroupOptions options, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        if (options.Address is not null)
        {
            (Membership membership, IDisposable? server) = await NetworkJoin.RunAsync(options, MachineIdentity.Own(), ct).ConfigureAwait(false);
            return new ExpertGroup(new ControlChannel(options, membership, server));
        }
        // A control connection and a process to each peer, at rank 0 besides those on which they join.
        ProcessLimits.RequireDescriptors((options.Rank == 0 ? 4 : 2) * options.Size, $"to join a group of {options.Size} ranks");
        return new ExpertGroup(await ControlChannel.JoinAsync(options, ct).ConfigureAwait(false));
    }

    /// <summary>
    /// Joins this process to its group by an all-gather that the ranks have already, in place of <see cref="ExpertGroupOptions.Directory"/>
    /// and <see cref="ExpertGroupOptions.Address"/>, which are not used; no token file is needed. Returns when all ranks are connected; a
    /// rank that fails makes all fail, by name.
    /// </summary>
    /// <param name="options">This rank and the group's size at least; the ranks of several machines need a <see cref="ExpertGroupOptions.BindAddress"/> each.</param>
    /// <param name="allGather">The all-gather. Its contract is said there.</param>
    /// <param name="ct">Cancels the join.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="JoinException">
    /// The all-gather failed, the ranks do not fit together, or not all were connected before <see cref="ExpertGroupOptions.JoinTimeout"/>.
    /// </exception>
    public static async Task<ExpertGroup> JoinAsync(ExpertGroupOptions options, ExpertBootstrap allGather, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(allGather);
        options.Validate();
        return await JoinAsync(options, allGather, MachineIdentity.Own(), ct).ConfigureAwait(false);
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

    internal static async Task<ExpertGroup> JoinAsync(
        ExpertGroupOptions options, ExpertBootstrap allGather, byte[] machine, CancellationToken ct)
    {
        Membership membership = await BootstrapJoin.RunAsync(options, allGather, machine, ct).ConfigureAwait(false);
        return new ExpertGroup(new ControlChannel(options, membership, server: null));
    }

    /// <summary>
    /// Goes on without the ranks that are gone. All ranks that remain call it, each after its calls have failed or in the same place of its program;
    /// they agree on who remains, and get a new group of those, ranks counted anew in the old order. Buffers are made anew in it: their memory is
    /// fresh, so that a rank that was put out and still writes reaches nobody. This group and its buffers can only be disposed after that.
    /// </summary>
    /// <param name="evict">
    /// Ranks to put out though they live, such as one that does not answer; those any rank names go. A rank that was put out gets
    /// <see cref="FencedException"/>, as soon as it runs again. To leave on purpose, a rank disposes its group instead.
    /// </param>
    /// <param name="ct">Cancels the wait for the others.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="evict"/> names this rank, or no rank of the group.</exception>
    /// <exception cref="PeerTimeoutException">A rank that remains has not called it within <see cref="Deadline"/>: call again, or evict it.</exception>
    /// <exception cref="FencedException">The others have put this rank out.</exception>
    public async Task<ExpertGroup> RebuildAsync(IReadOnlyCollection<int>? evict = null, CancellationToken ct = default)
    {
        int[] evicted = [.. evict ?? []];
        foreach (int rank in evicted)
        {
            if (rank < 0 || rank >= Size || rank == Rank)
                throw new ArgumentOutOfRangeException(nameof(evict), rank, $"Rank {Rank} of {Size} can evict the other ranks of its group, 0 to {Size - 1}.");
        }
        var last = new Succession(Channel, [.. Enumerable.Range(0, Size)]);
        // An earlier attempt may have come so far that the others could go on.
        while (last.Channel.UnheldSuccessor is { } next) last = Follow(last, next);
        while (true)
        {
            if (last.Channel == Channel || last.Channel.HasGathered)
            {
                RankSet still = RankSet.Of(evicted.Select(rank => Array.IndexOf(last.FormerRanks, rank)).Where(rank => rank >= 0));
                last = Follow(last, await last.Channel.RebuildAsync(still, ct).ConfigureAwait(false));
            }
            try
            {
                await last.Channel.AllGatherAsync(ReadOnlyMemory<byte>.Empty, null, ct).ConfigureAwait(false);
                if (!evicted.Intersect(last.FormerRanks).Any()) return Hold(last);
            }
            catch (PeerLostException)
            {
                // Another went while the group was rebuilt: all who remain come to know, and go on.
            }
        }
    }

    /// <summary>
    /// Takes newcomers in, at the end of the group: processes that join with <see cref="ExpertGroupOptions.IsNewcomer"/> at the same meeting place.
    /// All ranks call it, after <see cref="RebuildAsync"/> where ranks are gone. Buffers are made anew in the group that is returned.
    /// </summary>
    /// <param name="newcomers">How many; all ranks give the same number.</param>
    /// <param name="ct">Cancels the wait.</param>
    /// <exception cref="ArgumentOutOfRangeException">The group would have no newcomer, or more than <see cref="Limits.MaxRanks"/> ranks.</exception>
    /// <exception cref="InvalidOperationException">The group's ranks are threads of one process, or on several machines.</exception>
    /// <exception cref="JoinException">They did not come within <see cref="ExpertGroupOptions.JoinTimeout"/>. This group goes on.</exception>
    public async Task<ExpertGroup> GrowAsync(int newcomers, CancellationToken ct = default)
    {
        if (newcomers < 1 || newcomers > Limits.MaxRanks - Size)
            throw new ArgumentOutOfRangeException(nameof(newcomers), newcomers, $"A group of {Size} ranks takes 1 to {Limits.MaxRanks - Size} more.");
        Channel.ThrowIfOver(new CallSite(Operation.None, CallPhase.Rebuild, 0));
        if (Peers.Any(peer => peer.Node != 0)) throw new InvalidOperationException("A group that spans machines takes no newcomers: they meet on one.");
        Succession next = await Channel.GrowAsync(newcomers, ct).ConfigureAwait(false);
        return Hold(next);
    }

    private ExpertGroup Hold(Succession last)
    {
        var group = new ExpertGroup(last.Channel, last.FormerRanks);
        for (GroupChannel? each = Channel; each is not null && each != last.Channel;)
        {
            GroupChannel? next = each.Successor?.Channel;
            each.ReleaseSuccessor();
            each = next;
        }
        return group;
    }

    private static Succession Follow(Succession earlier, Succession next) =>
        next with { FormerRanks = [.. next.FormerRanks.Select(rank => rank < 0 ? -1 : earlier.FormerRanks[rank])] };

    internal static void RequireSize(int size, string name)
    {
        if (size is < 1 or > Limits.MaxRanks)
            throw new ArgumentOutOfRangeException(name, size, $"A group has 1 to {Limits.MaxRanks} ranks.");
    }

    /// <summary>Leaves the group: tells the peers, waits for nobody. Dispose the group's buffers first.</summary>
    public void Dispose()
    {
        Channel.Dispose();
        for (GroupChannel? next = Channel.UnheldSuccessor?.Channel; next is not null; next = next.UnheldSuccessor?.Channel) next.Dispose();
    }

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

using System.Text;
using Switchyard.Arena;
using Switchyard.Protocol;
using Switchyard.Rendezvous;
using Switchyard.Topology;
using Switchyard.Transports;

namespace Switchyard;

public sealed partial class ExpertBuffer
{
    private static readonly CallSite _create = new(Operation.None, CallPhase.Create, 0);

    /// <summary>Makes a buffer, in memory fresh for it. Collective: returns when all ranks have called it.</summary>
    /// <param name="group">The group.</param>
    /// <param name="options">The shape; the same on all ranks.</param>
    /// <param name="ct">Cancels the wait for the other ranks; the group is unusable after that.</param>
    /// <exception cref="ArgumentException">An option is out of range; thrown before anything is sent.</exception>
    /// <exception cref="CallMismatchException">Ranks gave different options; thrown on all ranks.</exception>
    /// <exception cref="TransportException">A rank could not allocate or map memory, or its device is too small; thrown on all ranks.</exception>
    /// <exception cref="PeerLostException">A rank is gone.</exception>
    public static async Task<ExpertBuffer> CreateAsync(ExpertGroup group, ExpertBufferOptions options, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate(group.Size);
        ArenaLayout layout = options.LayoutFor(group.Size);
        RequireOneNode(group);
        RequireWholeRows(options, layout);

        GroupChannel channel = group.Channel;
        IScaleUpTransport transport = options.Backend.ScaleUp;
        // Before the first gather, so that no rank counts what another has allocated already.
        TransportException? noRoom = Attempt(() => transport.RequireRoom(layout.TotalBytes, group.Size));
        await RequireSameOptionsAsync(channel, options, ct).ConfigureAwait(false);
        byte[][] places = await ShowPlacesAsync(channel, transport, ct).ConfigureAwait(false);
        int neighbours = places.Count(place => transport.Shares(places[group.Rank], place));
        TransportException? failure = noRoom ?? Attempt(() =>
        {
            transport.RequireReach(places);
            transport.RequireFit(options, neighbours);
        });
        (ArenaMemory[] arenas, IScaleUpEngine engine) = await ShareArenasAsync(
            channel, transport, layout, places, failure, mapped => new EngineSetup(channel, layout, mapped, options, neighbours), ct).ConfigureAwait(false);
        return new ExpertBuffer(group, options, layout, arenas, engine);
    }

    private static void RequireOneNode(ExpertGroup group)
    {
        if (new NodeTopology(group.Channel.Peers).Nodes == 1) return;
        PeerInfo far = group.Channel.Peers.First(peer => peer.Node != group.Channel.Peers[0].Node);
        throw new ArgumentException(
            $"The group spans machines: {group.Channel.Peers[0]} and {far} cannot map each other's memory. A buffer connects the ranks of "
            + "one machine; start one group on each.", nameof(group));
    }

    private static void RequireWholeRows(ExpertBufferOptions options, ArenaLayout layout)
    {
        int granularity = options.Backend.ScaleUp.RowGranularity;
        if (layout.RowBytes % granularity == 0) return;
        throw new ArgumentException(
            $"ExpertBufferOptions.Hidden is {options.Hidden}: rows of {layout.RowBytes} bytes as {options.Element}, but {options.Backend.GetType().Name} moves multiples of {granularity} bytes.",
            nameof(options));
    }

    private static async Task RequireSameOptionsAsync(GroupChannel channel, ExpertBufferOptions options, CancellationToken ct)
    {
        Gathered[] all = await channel.AllGatherAsync(Encoding.UTF8.GetBytes(options.Describe()), null, ct).ConfigureAwait(false);
        string[] first = Encoding.UTF8.GetString(all[0].Payload).Split('\n');
        for (int rank = 1; rank < all.Length; rank++)
        {
            string[] lines = Encoding.UTF8.GetString(all[rank].Payload).Split('\n');
            for (int line = 0; line < Math.Min(first.Length, lines.Length); line++)
            {
                if (first[line] == lines[line]) continue;
                throw new CallMismatchException(0, rank, $"ExpertBufferOptions.{first[line].Trim()} and {lines[line].Trim()}", _create);
            }
        }
    }

    private static async Task<byte[][]> ShowPlacesAsync(GroupChannel channel, IScaleUpTransport transport, CancellationToken ct)
    {
        Gathered[] all = await channel.AllGatherAsync(transport.Place, null, ct).ConfigureAwait(false);
        return [.. all.Select(each => each.Payload)];
    }

    /// <summary>Allocates this rank's arena, maps everybody's and makes the engine. If any rank fails, all do, and nothing stays mapped.</summary>
    private static async Task<(ArenaMemory[] Arenas, IScaleUpEngine Engine)> ShareArenasAsync(
        GroupChannel channel,
        IScaleUpTransport transport,
        ArenaLayout layout,
        byte[][] places,
        TransportException? hindrance,
        Func<ArenaMemory[], EngineSetup> setup,
        CancellationToken ct)
    {
        ArenaMemory? mine = null;
        IScaleUpEngine? engine = null;
        var mapped = new List<ArenaMemory>();
        bool isShared = false;
        try
        {
            TransportException? failure = hindrance ?? Attempt(() =>
            {
                mine = transport.Allocate(layout.TotalBytes);
                ArenaHeader.Write(mine, channel.Rank, channel.Generation, layout);
            });
            using ArenaExport? export = mine is null ? null : ArenaExport.Of(mine);
            FaultPoints.Pass(FaultPoint.ShareArena);
            Gathered[] all = await GatherOutcomeAsync(channel, failure, export, ct).ConfigureAwait(false);

            failure = Attempt(() =>
            {
                try
                {
                    for (int rank = 0; rank < channel.Size; rank++)
                    {
                        mapped.Add(transport.Map(all[rank].Arena ?? throw new TransportException("mmap", 0, $"Rank {rank} shared no arena."), places[rank]));
                        RequireHeader(mapped[rank], rank, channel, layout);
                    }
                }
                finally
                {
                    foreach (Gathered each in all) each.Arena?.Dispose();
                }
                engine = transport.CreateEngine(setup([.. mapped]));
            });
            FaultPoints.Pass(FaultPoint.MapArenas);
            await GatherOutcomeAsync(channel, failure, null, ct).ConfigureAwait(false);
            isShared = true;
            return ([.. mapped], engine!);
        }
        finally
        {
            mine?.Release();
            if (!isShared)
            {
                engine?.Dispose();
                mapped.ForEach(arena => arena.Release());
            }
        }
    }

    /// <summary>Tells all ranks whether this one's step succeeded; throws on all if it failed on any.</summary>
    private static async Task<Gathered[]> GatherOutcomeAsync(
        GroupChannel channel, TransportException? failure, ArenaExport? export, CancellationToken ct)
    {
        byte[] outcome = failure is null ? [] : Encoding.UTF8.GetBytes($"{failure.Call}\n{failure.Code}\n{failure.Message}");
        Gathered[] all = await channel.AllGatherAsync(outcome, export, ct).ConfigureAwait(false);
        int failed = Array.FindIndex(all, each => each.Payload.Length > 0);
        if (failed < 0) return all;

        foreach (Gathered each in all) each.Arena?.Dispose();
        if (failure is not null) throw failure;
        string[] parts = Encoding.UTF8.GetString(all[failed].Payload).Split('\n', 3);
        throw new TransportException(parts[0], int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture), $"Rank {failed}: {parts[2]}");
    }

    private static TransportException? Attempt(Action step)
    {
        try
        {
            step();
            return null;
        }
        catch (TransportException failure)
        {
            return failure;
        }
    }

    private static void RequireHeader(ArenaMemory arena, int rank, GroupChannel channel, ArenaLayout layout)
    {
        if (!ArenaHeader.Matches(arena, rank, channel.Generation, layout))
            throw new TransportException("mmap", 0, $"The arena that rank {rank} shared is not of this group, generation and layout.");
    }
}

using System.Net;
using System.Security.Cryptography;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>What a rank brings to a bootstrap besides its options.</summary>
/// <param name="Machine">What its machine is told from others by.</param>
/// <param name="Bind">Where ranks of other machines are to reach it; null where they need not.</param>
/// <param name="Token">A secret that the all-gather does not carry, if there is one.</param>
/// <param name="Tls">How connections between machines are secured, if they are.</param>
internal sealed record BootstrapSetup(byte[] Machine, IPAddress? Bind, JobToken? Token, TlsIdentity? Tls);

/// <summary>
/// Forms a group from three all-gathers of a few hundred bytes: the ranks' cards; whether all saw the same; and, when each pair has
/// connected, whether all succeeded. A rank that fails tells the others why.
/// </summary>
internal sealed class BootstrapJoin : IDisposable
{
    /// <summary>How many all-gathers it takes.</summary>
    public const int Rounds = 3;

    private const int Backlog = 512;
    private const int GraceMs = 100;
    private readonly ExpertGroupOptions _options;
    private readonly BootstrapSetup _setup;
    private readonly ExpertBootstrap _allGather;
    private readonly JoinClock _clock;
    private readonly PacketSocket _listener;
    private readonly TcpDoor? _door;
    private readonly byte[] _card;
    private MeshGate? _gate;

    private BootstrapJoin(
        ExpertGroupOptions options, BootstrapSetup setup, ExpertBootstrap allGather, JoinClock clock, TcpDoor? door)
    {
        _options = options;
        _setup = setup;
        _allGather = allGather;
        _clock = clock;
        Member self = Member.Self;
        var hello = new Hello(JoinFrames.Version, options.Rank, options.Size, self.ProcessId, ControlChannel.FirstGeneration,
            self.StartTime, options.Job, self.Host);
        var card = new Card(hello, setup.Machine, RandomNumberGenerator.GetBytes(Card.DoorBytes), door?.Address);
        _card = card.ToFrame();
        _listener = PacketSocket.Listen(card.DoorName, Backlog);
        _door = door;
    }

    /// <summary>With a caller's all-gather, which has no secret but what it carries.</summary>
    public static async Task<Membership> RunAsync(
        ExpertGroupOptions options, ExpertBootstrap allGather, byte[] machine, CancellationToken ct)
    {
        JobToken? token = options.TokenFile is { } path ? JobToken.Read(path) : null;
        using var clock = new JoinClock(options.JoinTimeout, ct);
        var setup = new BootstrapSetup(machine, NetworkAddress.ParseBind(options.BindAddress), token, TlsIdentity.Load(options));
        return await RunAsync(options, setup, allGather, clock).ConfigureAwait(false);
    }

    public static async Task<Membership> RunAsync(
        ExpertGroupOptions options, BootstrapSetup setup, ExpertBootstrap allGather, JoinClock clock)
    {
        using TcpDoor? door = setup.Bind is { } address
            ? TcpDoor.Open(new IPEndPoint(address, 0), "ExpertGroupOptions.BindAddress (SWITCHYARD_BIND_ADDRESS)", setup.Tls)
            : null;
        using var join = new BootstrapJoin(options, setup, allGather, clock, door);
        return await join.RunAsync().ConfigureAwait(false);
    }

    public void Dispose()
    {
        _door?.Dispose(); // before the gate, which takes what comes through it
        _gate?.Dispose();
        _listener.Dispose();
    }

    private async Task<Membership> RunAsync()
    {
        byte[][] frames = await GatherAsync(_card, "the ranks' cards").ConfigureAwait(false);
        (Roster? roster, JoinException? misfit) = Attempt(() => Roster.Parse(frames, _card, _options));
        JobToken? key = roster?.KeyFor(_setup.Token);
        // Open before anyone is told that this rank agrees.
        if (key is not null) OpenGate(roster!, key);
        await AgreeAsync(misfit, SealOf(key), "whether all saw the same").ConfigureAwait(false);

        var ties = new PeerTie?[_options.Size];
        try
        {
            Exception? failure = await TieAsync(roster!, key!, ties).ConfigureAwait(false);
            if (_clock.Token.IsCancellationRequested && failure is not null) throw failure;
            await AgreeAsync(failure, new byte[Verdict.SealBytes], "whether all have connected").ConfigureAwait(false);
            return new Membership(_options.Rank, ControlChannel.FirstGeneration, roster!.Members, ties);
        }
        catch
        {
            foreach (PeerTie? tie in ties) tie?.Dispose();
            throw;
        }
    }

    private void OpenGate(Roster roster, JobToken key)
    {
        _gate = new MeshGate(_options.Rank, roster, key, _listener);
        _door?.OpenTo(_gate);
        _gate.Start();
    }

    /// <summary>Connects to every rank; returns what went wrong, if anything did.</summary>
    private async Task<Exception?> TieAsync(Roster roster, JobToken key, PeerTie?[] ties)
    {
        try
        {
            await new MeshCaller(roster, key, _options, _setup.Tls, _clock).TieAsync(ties).ConfigureAwait(false);
            await _gate!.All.WaitAsync(_clock.Token).ConfigureAwait(false);
            PeerTie?[] higher = _gate.TakeTies();
            for (int rank = _options.Rank + 1; rank < ties.Length; rank++) ties[rank] = higher[rank];
            return null;
        }
        catch (OperationCanceledException) when (_clock.IsOver)
        {
            return _clock.Late(_options.Rank, $"{Refusal.Missing(_gate!.Missing())} to connect");
        }
        catch (Exception e) when (e is SwitchyardException or OperationCanceledException)
        {
            return e;
        }
    }

    /// <summary>Tells all ranks how it stands with this one, and throws if any failed or rests on something else than this one.</summary>
    private async Task AgreeAsync(Exception? failure, byte[] seal, string about)
    {
        byte[][] frames;
        try
        {
            frames = await GatherAsync(new Verdict(failure?.Message, seal).ToFrame(), about).ConfigureAwait(false);
        }
        catch (JoinException) when (failure is not null)
        {
            throw failure;
        }
        if (failure is not null) throw failure;
        for (int rank = 0; rank < frames.Length; rank++)
        {
            Verdict verdict = Verdict.Parse(frames[rank])
                ?? throw new JoinException($"The all-gather returned {frames[rank]?.Length ?? 0} bytes for rank {rank} that no rank of Switchyard gives.");
            if (verdict.Fault is not null) throw new JoinException($"Rank {rank} could not join: {verdict.Fault}");
            if (CryptographicOperations.FixedTimeEquals(verdict.Seal, seal)) continue;
            throw new JoinException($"Ranks {_options.Rank} and {rank} differ in what the all-gather returned to them, or in their tokens: "
                + "it must give all ranks the same bytes, and ExpertGroupOptions.TokenFile must be the same on all or absent.");
        }
    }

    private async Task<byte[][]> GatherAsync(byte[] mine, string about)
    {
        byte[][]? all;
        try
        {
            all = await AwaitAsync(_allGather(mine, _clock.Token)).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_clock.Token.IsCancellationRequested)
        {
            if (_clock.IsOver) throw _clock.Late(_options.Rank, $"the all-gather of {about} did not return");
            throw;
        }
        catch (Exception e) when (e is not (SwitchyardException or OperationCanceledException))
        {
            throw new JoinException($"Rank {_options.Rank}'s all-gather of {about} failed: {e.Message}", e);
        }
        int count = all?.Length ?? 0;
        bool isFirst = mine == _card;
        if (!isFirst && count != _options.Size)
            throw new JoinException($"The all-gather of {about} returned the bytes of {count} ranks to rank {_options.Rank} of {_options.Size}.");
        return all ?? [];
    }

    /// <summary>Waits for an all-gather until the time is over, and then a moment more: it may know who is late.</summary>
    private async Task<byte[][]> AwaitAsync(Task<byte[][]> gathering)
    {
        try
        {
            return await gathering.WaitAsync(_clock.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!gathering.IsCompleted)
        {
            await Task.WhenAny(gathering, Task.Delay(GraceMs)).ConfigureAwait(false);
            if (!gathering.IsFaulted) throw;
            return await gathering.ConfigureAwait(false);
        }
    }

    /// <summary>What shows that this rank saw the same cards and has the same token, without telling the key.</summary>
    private static byte[] SealOf(JobToken? key)
    {
        var seal = new byte[Verdict.SealBytes];
        key?.Prove("switchyard seal"u8, default, default, seal);
        return seal;
    }

    private static (Roster? Roster, JoinException? Misfit) Attempt(Func<Roster> parse)
    {
        try
        {
            return (parse(), null);
        }
        catch (JoinException e)
        {
            return (null, e);
        }
    }
}

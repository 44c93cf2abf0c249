using System.Diagnostics;
using Switchyard.Rendezvous;

namespace Switchyard.Protocol;

/// <summary>
/// The one way to wait for a peer: poll its word briefly, then sleep on the doorbell; give up at the deadline, or at once when a fault is
/// reported or the peer has left.
/// </summary>
internal sealed unsafe class Waiter
{
    /// <summary>A changed deadline is noticed within this time.</summary>
    private static readonly TimeSpan _longestSleep = TimeSpan.FromMilliseconds(100);

    /// <summary>After so long a peer is looked at: an exchange takes less.</summary>
    private static readonly TimeSpan _patience = TimeSpan.FromMilliseconds(20);

    /// <summary>What a peer that itself waits for another gets on top of the deadline, so that it may name the one that is really late.</summary>
    private static readonly TimeSpan _grace = TimeSpan.FromMilliseconds(300);

    private readonly PeerArenas _arenas;
    private readonly GroupChannel _channel;
    private readonly FaultBoard _faults;
    private readonly Doorbell _doorbell;
    private readonly bool _isCrowded;
    private readonly long _spinTicks;
    private readonly long[] _waitedTicks;

    public Waiter(PeerArenas arenas, GroupChannel channel, FaultBoard faults, int neighbours)
    {
        _arenas = arenas;
        _channel = channel;
        _faults = faults;
        _doorbell = arenas.DoorbellOf(arenas.Rank);
        _waitedTicks = new long[arenas.Ranks];
        // Binds the system call now: its first use allocates, and must not fall into a step.
        _doorbell.Ring();
        // A round trip takes 0.14 us to a spinning rank and 12 us to a sleeping one, so it pays to poll for a few of those. With fewer cores
        // than ranks, polling must leave the core to the rank that is waited for.
        _isCrowded = neighbours > Environment.ProcessorCount;
        int spinMicroseconds = _isCrowded ? 100 : 50;
        _spinTicks = spinMicroseconds * Stopwatch.Frequency / 1_000_000;
    }

    public TimeSpan Deadline { get; set; }

    /// <summary>How long this rank has waited for a peer so far, first looks that found the word not counted.</summary>
    public TimeSpan WaitedFor(int peer) => Stopwatch.GetElapsedTime(0, Volatile.Read(ref _waitedTicks[peer]));

    /// <summary>Returns the word once its epoch is <paramref name="epoch"/> or later; what its writer wrote before it is then visible.</summary>
    public EpochWord Await(ulong* word, long epoch, int peer, CallSite site)
    {
        var seen = new EpochWord(Volatile.Read(ref *word));
        if (seen.HasReached(epoch)) return seen;
        long start = Stopwatch.GetTimestamp();
        try
        {
            return AwaitSlowly(word, epoch, peer, site, start);
        }
        finally
        {
            Volatile.Write(ref _waitedTicks[peer], _waitedTicks[peer] + Stopwatch.GetTimestamp() - start);
        }
    }

    private EpochWord AwaitSlowly(ulong* word, long epoch, int peer, CallSite site, long start)
    {
        while (Stopwatch.GetTimestamp() - start < _spinTicks)
        {
            var seen = new EpochWord(Volatile.Read(ref *word));
            if (seen.HasReached(epoch)) return seen;
            if (_isCrowded) Thread.Yield();
            else Thread.SpinWait(8);
        }

        while (true)
        {
            uint bell = _doorbell.Prepare();
            var seen = new EpochWord(Volatile.Read(ref *word));
            if (seen.HasReached(epoch))
            {
                _doorbell.Awake();
                return seen;
            }
            TimeSpan waited = Stopwatch.GetElapsedTime(start);
            if (FaultOf(word, epoch, peer, site, waited) is { } fault)
            {
                _doorbell.Awake();
                throw fault;
            }
            if (waited >= _patience) _channel.Examine(peer);
            TimeSpan left = Deadline - waited, sleep = waited < _longestSleep ? waited + _patience : _longestSleep;
            _doorbell.Sleep(bell, left > TimeSpan.Zero && left < sleep ? left : sleep);
        }
    }

    private SwitchyardException? FaultOf(ulong* word, long epoch, int peer, CallSite site, TimeSpan waited)
    {
        bool isRaised = _faults.IsRaised;
        FaultKind kind = isRaised ? FaultKind.None : WhyNever(peer, waited);
        if (!isRaised && kind == FaultKind.None) return null;

        // The word may have been written after it was read and before the fault was, or before its writer left.
        if (new EpochWord(Volatile.Read(ref *word)).HasReached(epoch)) return null;
        if (isRaised) return _faults.Exception(site);
        return _faults.Raise(new FaultRecord
        {
            Kind = kind,
            Operation = site.Operation,
            Phase = site.Phase,
            Epoch = site.Epoch,
            Culprit = peer,
            Expected = epoch,
            Seen = _arenas.LastAnnounced(peer, site.Epoch),
            WaitedTicks = waited.Ticks,
            HasNoThread = _channel.HasNoThreadOfItsOwn(peer) ? 1 : 0,
        });
    }

    private FaultKind WhyNever(int peer, TimeSpan waited)
    {
        if (_channel.StateOf(peer) == PeerState.Left) return FaultKind.PeerLeft;
        if (Volatile.Read(ref *_arenas.ClosedAt(_arenas.Rank, peer)) != 0) return FaultKind.PeerClosed;
        TimeSpan allowed = _arenas.DoorbellOf(peer).IsMarked ? Deadline + _grace : Deadline;
        return waited >= allowed ? FaultKind.Timeout : FaultKind.None;
    }
}

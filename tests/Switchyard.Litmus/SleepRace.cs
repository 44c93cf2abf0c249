using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Protocol;

namespace Switchyard.Litmus;

internal enum Fences
{
    Both,
    SleeperOnly,
    WriterOnly,
}

/// <summary>
/// A writer that rings only for a marked sleeper, against a sleeper that looks once more after it marked itself. Forbidden: the sleeper
/// saw nothing and the bell was not rung, so that it would sleep on.
/// </summary>
internal sealed unsafe class SleepRace : IRace
{
    private const int Lines = 8;
    private const int LongsALine = 8;

    private readonly ArenaLayout _layout = new(2, 1, 1, 1, ElementType.Single, 0);
    private readonly Fences _fences;
    private readonly PeerArenas _writer;
    private readonly PeerArenas _sleeper;
    private readonly Doorbell _bell;

    /// <summary>Lines that the writer writes first and the sleeper has last written: what follows stays in the writer's store buffer until they came.</summary>
    private readonly long[] _lines = new long[Lines * LongsALine];
    private bool _wouldSleep;
    private uint _bellSeen;

    public SleepRace(Fences fences)
    {
        _fences = fences;
        SharedMemory[] arenas = [SharedMemory.Create(_layout.TotalBytes), SharedMemory.Create(_layout.TotalBytes)];
        _writer = new PeerArenas(0, _layout, arenas);
        _sleeper = new PeerArenas(1, _layout, arenas);
        _bell = _sleeper.DoorbellOf(1);
    }

    private uint* BellWord => (uint*)(_sleeper.Base(1) + _layout.DoorbellOffset);

    private uint* SleeperWord => (uint*)(_sleeper.Base(1) + _layout.SleeperOffset);

    public void Write(long round)
    {
        TakeLines(round);
        Volatile.Write(ref *_writer.DoneAt(1, 0), new EpochWord(round).Bits);
        if (_fences == Fences.SleeperOnly) _writer.DoorbellOf(1).RingIfSleeping();
        else _writer.RingSleepers();
    }

    public void Read(long round)
    {
        if (_fences == Fences.WriterOnly)
        {
            _bellSeen = Volatile.Read(ref *BellWord);
            Volatile.Write(ref *SleeperWord, 1);
        }
        else
        {
            _bellSeen = _bell.Prepare();
        }
        _wouldSleep = !new EpochWord(Volatile.Read(ref *_sleeper.DoneAt(1, 0))).HasReached(round);
    }

    public bool IsForbidden(long round)
    {
        bool isLost = _wouldSleep && Volatile.Read(ref *BellWord) == _bellSeen;
        _bell.Awake();
        TakeLines(round);
        return isLost;
    }

    private void TakeLines(long round)
    {
        for (int i = 0; i < _lines.Length; i += LongsALine) Volatile.Write(ref _lines[i], round);
    }
}

using System.IO.MemoryMappedFiles;

namespace Switchyard.Cli.Bench.Work;

/// <summary>
/// Lets all ranks start a phase together, within a fraction of a microsecond where each has a core: a counter a rank, in a file that all
/// map. A rank that never comes is the launcher's business, which ends the others.
/// </summary>
internal sealed unsafe class StartLine : IDisposable
{
    // Two cache lines: hardware that fetches pairs of lines would let neighbours disturb each other.
    private const int CellBytes = 128;
    private const int SpinsTogether = 10_000;

    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _cells;
    private readonly int _ranks;
    private readonly int _rank;
    private readonly bool _isCrowded;
    private long _round;

    public StartLine(string path, int ranks, int rank)
    {
        _ranks = ranks;
        _rank = rank;
        _isCrowded = ranks > Environment.ProcessorCount;
        _file = MemoryMappedFile.CreateFromFile(path, FileMode.Open);
        _view = _file.CreateViewAccessor(0, (long)ranks * CellBytes);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _cells);
    }

    /// <summary>Makes the file, before any rank opens it.</summary>
    public static void Prepare(string path, int ranks) => File.WriteAllBytes(path, new byte[ranks * CellBytes]);

    /// <summary>Returns when all ranks have called it as often as this one.</summary>
    public void Wait()
    {
        // First all come together, each leaving its core to others meanwhile; then none has to wait long, and none has to come back from
        // a yield.
        Meet(spins: 0);
        Meet(_isCrowded ? 0 : SpinsTogether);
    }

    /// <summary>As <see cref="Wait"/>, but asleep, and so up to milliseconds late: a thread that spins slows the one on the other half of its core.</summary>
    public void WaitAsleep()
    {
        long round = ++_round;
        Volatile.Write(ref Cell(_rank), round);
        for (int rank = 0; rank < _ranks; rank++)
        {
            while (Volatile.Read(ref Cell(rank)) < round) Thread.Sleep(1);
        }
    }

    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file.Dispose();
    }

    private void Meet(int spins)
    {
        long round = ++_round;
        Volatile.Write(ref Cell(_rank), round);
        for (int rank = 0; rank < _ranks; rank++)
        {
            while (Volatile.Read(ref Cell(rank)) < round)
            {
                if (spins-- > 0) Thread.SpinWait(1);
                else Thread.Yield();
            }
        }
    }

    private ref long Cell(int rank) => ref *(long*)(_cells + ((long)rank * CellBytes));
}

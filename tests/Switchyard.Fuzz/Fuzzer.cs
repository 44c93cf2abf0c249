using System.Diagnostics;
using System.IO.MemoryMappedFiles;

namespace Switchyard.Fuzz;

/// <summary>
/// Runs a target on a corpus, then on mutations of it for a while: an input that takes a new branch joins it. In one process, so an input that
/// ends it is left in a file.
/// </summary>
internal sealed class Fuzzer(Target target, List<byte[]> corpus)
{
    private const int CurrentBytes = 8192;
    private const int MostKept = 32;

    /// <summary>Far beyond what any input takes, even on a crowded machine.</summary>
    private static readonly TimeSpan _limit = TimeSpan.FromSeconds(20);

    private readonly List<byte[]> _pool = [];
    private readonly string _currentPath = Environment.GetEnvironmentVariable("FUZZ_CURRENT") ?? throw new InvalidOperationException("FUZZ_CURRENT is not set: run tests/Switchyard.Fuzz/check.");
    private long _startedAt;
    private byte[] _current = [];

    /// <summary>False where the target's property does not hold; the input was printed.</summary>
    public bool Run(TimeSpan duration)
    {
        using var file = MemoryMappedFile.CreateFromFile(_currentPath, FileMode.Create, null, CurrentBytes);
        using MemoryMappedViewAccessor view = file.CreateViewAccessor();
        new Thread(Watch) { IsBackground = true }.Start();
        var clock = Stopwatch.StartNew();
        long tried = 0;
        List<byte[]> first = [.. target.Seeds(), .. corpus];
        // Twice: what is initialized at first use takes branches that no input is the cause of.
        if (first.Any(input => Attempt(input, view) is null)) return false;
        Coverage.Forget();
        foreach (byte[] input in first)
        {
            if (Attempt(input, view) is not { } isNew) return false;
            if (isNew) _pool.Add(input);
        }
        // Of a fixed seed, so that a run can be repeated; a longer one goes on where a shorter one ends.
        var random = new Random(1);
        var mutator = new Mutator(random);
        for (clock.Restart(); clock.Elapsed < duration; tried++)
        {
            byte[] input = mutator.Mutate(_pool[random.Next(_pool.Count)], _pool);
            if (Attempt(input, view) is not { } isNew) return false;
            if (isNew) _pool.Add(input);
        }
        Console.WriteLine($"{target.Name}: {first.Count} inputs replayed, {tried} tried in {clock.Elapsed.TotalSeconds:0.0} s, {Coverage.Branches} branches, {_pool.Count} inputs that differ");
        return true;
    }

    /// <summary>Of the inputs that took new branches those that are needed, small ones first. Some targets run threads, whose branches interleave at random: not all of theirs are kept.</summary>
    public List<byte[]> Smallest()
    {
        Coverage.Forget();
        var kept = new List<byte[]>();
        foreach (byte[] input in _pool.OrderBy(input => input.Length))
        {
            if (kept.Count < MostKept && IsNew(input)) kept.Add(input);
        }
        return kept;
    }

    /// <summary>Whether the input took a new branch; null where the property does not hold.</summary>
    private bool? Attempt(byte[] input, MemoryMappedViewAccessor view)
    {
        view.Write(0, input.Length);
        view.WriteArray(sizeof(int), input, 0, Math.Min(input.Length, CurrentBytes - sizeof(int)));
        _current = input;
        Volatile.Write(ref _startedAt, Stopwatch.GetTimestamp());
        try
        {
            return IsNew(input);
        }
#pragma warning disable CA1031 // Any exception that a target lets through is a finding.
        catch (Exception failure)
#pragma warning restore CA1031
        {
            Console.WriteLine($"{target.Name}: {failure}");
            Console.WriteLine($"input: {Convert.ToHexStringLower(input)}");
            return null;
        }
        finally
        {
            Volatile.Write(ref _startedAt, 0);
        }
    }

    private bool IsNew(byte[] input)
    {
        Coverage.Begin();
        target.Run(input);
        return Coverage.End();
    }

    private void Watch()
    {
        while (true)
        {
            Thread.Sleep(500);
            long startedAt = Volatile.Read(ref _startedAt);
            if (startedAt == 0 || Stopwatch.GetElapsedTime(startedAt) < _limit) continue;
            Console.WriteLine($"{target.Name}: still running after {_limit.TotalSeconds} s");
            Console.WriteLine($"input: {Convert.ToHexStringLower(_current)}");
            Environment.Exit(1);
        }
    }
}

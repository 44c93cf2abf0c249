using Switchyard.Arena;
using Switchyard.Cpu;
using Switchyard.Protocol;
using Xunit;

namespace Switchyard.Tests;

/// <summary>
/// Two ranks, one expert each. Rank 0 runs the library; what rank 1 writes into its arena the test writes itself, step by step, in a step whose
/// result is known: rank 0 sends a row to each rank, rank 1 both of its rows to rank 0.
/// </summary>
internal sealed unsafe class HandPlayedRank : IDisposable
{
    private const int Hidden = 8;
    private const int Tokens = 2;
    private const int RowsToZero = 2;

    private static readonly float[] _x = [.. Enumerable.Range(1, Tokens * Hidden).Select(i => (float)i)];
    private static readonly float[] _theirX = [.. Enumerable.Range(1, Tokens * Hidden).Select(i => 100f + i)];
    private static readonly float[] _theirResult = [.. Enumerable.Range(1, Hidden).Select(i => 1000f + i)];

    private readonly ExpertGroup[] _groups = ExpertGroup.CreateLocal(2);
    private readonly ExpertBuffer[] _buffers;
    private long _epoch;

    public HandPlayedRank(TimeSpan deadline)
    {
        var options = new ExpertBufferOptions
        {
            Backend = CpuBackend.Instance,
            Experts = 2,
            TopK = 1,
            Hidden = Hidden,
            MaxTokensPerRank = Tokens,
            Element = ElementType.Single,
            WorkerThreads = 1,
            Deadline = deadline,
        };
        _buffers = Task.WhenAll(_groups.Select(group => ExpertBuffer.CreateAsync(group, options))).GetAwaiter().GetResult();
    }

    /// <summary>What is written for a word of rank 1, given its name and value, once all that it announces is there; null for nothing.</summary>
    public Func<string, ulong, ulong?> Writes { get; set; } = (_, value) => value;

    private ArenaLayout Layout => _buffers[0].Layout;

    /// <summary>What rank 1 announces to rank 0 in the call that runs.</summary>
    public Announcement* Entry => EntryAt(0, source: 1);

    public ulong* Arrival => (ulong*)(_buffers[0].ArenaBase + Layout.ArrivalOf(1));

    public ulong* Done => (ulong*)(_buffers[0].ArenaBase + Layout.DoneOf(1));

    /// <summary>A dispatch and a combine; returns the error that rank 0 got, or null if all it got was right.</summary>
    public SwitchyardException? Step()
    {
        Task<SwitchyardException?> library = Task.Factory.StartNew(RunRankZero, TaskCreationOptions.LongRunning);
        bool isThrough = Play(library);
        SwitchyardException? error = library.WaitAsync(TimeSpan.FromSeconds(30)).GetAwaiter().GetResult();
        Assert.True(isThrough || error is not null, "rank 0 went on without a word of rank 1");
        return error;
    }

    public void Dispose()
    {
        foreach (ExpertBuffer buffer in _buffers) buffer.Dispose();
        foreach (ExpertGroup group in _groups) group.Dispose();
    }

    private SwitchyardException? RunRankZero()
    {
        try
        {
            using Dispatched d = _buffers[0].Dispatch(_x, new[] { 0, 1 }, default, new DispatchOptions { Layout = RowLayout.RankMajor });
            Assert.Equal(3, d.RowCount);
            Assert.Equal<float>([.. _x[..Hidden], .. _theirX], d.Rows.AsSpan<float>().ToArray());
            var output = new float[Tokens * Hidden];
            _buffers[0].Combine(d.Rows, d.Handle, output);
            Assert.Equal<float>([.. _x[..Hidden], .. _theirResult], output);
            return null;
        }
        catch (SwitchyardException error)
        {
            return error;
        }
    }

    /// <summary>Rank 1's part of the step; false where rank 0 ended before all was played.</summary>
    private bool Play(Task library)
    {
        if (!Hears(library)) return false;
        Announcement announcement = *EntryAt(1, source: 0);
        Write(new Announcement { Epoch = _epoch, Signature = announcement.Signature, RegionOffset = Layout.PoolOffset, RegionRows = announcement.RegionRows }, [RowsToZero, 0], [RowsToZero, 0]);
        for (int i = 0; i < _theirX.Length; i++) ((float*)(_buffers[0].ArenaBase + announcement.RegionOffset))[Hidden + i] = _theirX[i];
        Tell("arrival", Arrival, new EpochWord(_epoch, RowsToZero));

        if (!Hears(library)) return false;
        for (int i = 0; i < Hidden; i++) ((float*)(_buffers[1].ArenaBase + Layout.PoolOffset))[i] = _theirResult[i];
        announcement = *EntryAt(1, source: 0);
        Write(new Announcement { Epoch = _epoch, Signature = announcement.Signature, RegionOffset = Layout.PoolOffset, RegionRows = 1 }, [], []);
        Tell("done", Done, new EpochWord(_epoch));
        return true;
    }

    /// <summary>Waits for rank 0's next announcement; false where it ended instead.</summary>
    private bool Hears(Task library)
    {
        _epoch++;
        ulong* flag = &EntryAt(1, source: 0)->Flag;
        while (!new EpochWord(Volatile.Read(ref *flag)).HasReached(_epoch))
        {
            if (library.IsCompleted) return false;
            Thread.Yield();
        }
        return true;
    }

    private void Write(Announcement announcement, ReadOnlySpan<int> tokens, ReadOnlySpan<int> choices)
    {
        announcement = announcement with { Flag = Entry->Flag, Check = announcement.CheckWith(tokens, choices) };
        *Entry = announcement;
        tokens.CopyTo(new Span<int>((byte*)Entry + Layout.RankCountsOffset, 2));
        choices.CopyTo(new Span<int>((byte*)Entry + Layout.ExpertCountsOffset, 2));
        Tell(announcement.Signature.Operation == Operation.Combine ? "combine" : "dispatch", &Entry->Flag, new EpochWord(_epoch));
    }

    private void Tell(string name, ulong* word, EpochWord value)
    {
        if (Writes(name, value.Bits) is { } bits) Volatile.Write(ref *word, bits);
        new Doorbell((nint)_buffers[0].ArenaBase + (nint)Layout.DoorbellOffset, (nint)_buffers[0].ArenaBase + (nint)Layout.SleeperOffset).Ring();
    }

    private Announcement* EntryAt(int rank, int source) => (Announcement*)(_buffers[rank].ArenaBase + Layout.EntryOf(source, _epoch));
}

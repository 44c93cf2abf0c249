namespace Switchyard.Rendezvous.Tests;

/// <summary>An all-gather between the ranks of a test, as a caller of the library would bring it; what it does wrong is up to the test.</summary>
internal sealed class Hub(int size)
{
    private readonly List<byte[]?[]> _given = [];
    private readonly List<TaskCompletionSource> _whole = [];

    /// <summary>Called on a rank with a round's result, which it may change or replace; or it may throw or wait.</summary>
    public Func<int, int, byte[][], Task<byte[][]>>? Meddle { get; init; }

    public ExpertBootstrap For(int rank)
    {
        int round = 0;
        return async (mine, ct) =>
        {
            int current = round++;
            Task whole = Give(current, rank, mine.ToArray());
            await whole.WaitAsync(ct);
            byte[][] all = [.. _given[current].Select(bytes => bytes!.ToArray())];
            return Meddle is null ? all : await Meddle(rank, current, all);
        };
    }

    public Task<ExpertGroup>[] JoinAll(
        Func<int, int>? machineOf = null, Func<int, ExpertGroupOptions, ExpertGroupOptions>? change = null, CancellationToken ct = default)
    {
        return [.. Enumerable.Range(0, size).Select(rank =>
        {
            var options = new ExpertGroupOptions { Rank = rank, Size = size, Job = "hub", JoinTimeout = TimeSpan.FromSeconds(10) };
            if (machineOf is not null) options = options with { BindAddress = "127.0.0.1" };
            return ExpertGroup.JoinAsync(change?.Invoke(rank, options) ?? options, For(rank), TestMachine(machineOf?.Invoke(rank) ?? 0), ct);
        })];
    }

    /// <summary>The identity of a machine that a test pretends.</summary>
    public static byte[] TestMachine(int number)
    {
        var machine = new byte[32];
        machine[0] = (byte)number;
        return machine;
    }

    private Task Give(int round, int rank, byte[] bytes)
    {
        lock (_given)
        {
            if (_given.Count == round)
            {
                _given.Add(new byte[]?[size]);
                _whole.Add(new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
            }
            _given[round][rank] = bytes;
            if (_given[round].All(given => given is not null)) _whole[round].SetResult();
            return _whole[round].Task;
        }
    }
}

using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Equal steps of a small exchange whose result is checked: every rank sends a row to each, and adds what comes back.</summary>
internal sealed class Steps : IDisposable
{
    private const int Hidden = 64;

    private readonly RankContext _rank;
    private readonly ExpertBuffer _buffer;
    private readonly int[] _choices;
    private readonly float[] _x = new float[Hidden];
    private readonly float[] _output = new float[Hidden];

    private Steps(RankContext rank, ExpertBuffer buffer)
    {
        _rank = rank;
        _buffer = buffer;
        _choices = [.. Enumerable.Range(0, rank.Group.Size)];
    }

    public ExpertBuffer Buffer => _buffer;

    public static async Task<Steps> CreateAsync(RankContext rank) => new(rank, await ExpertBuffer.CreateAsync(rank.Group, Options(rank)));

    public static ExpertBufferOptions Options(RankContext rank) => new()
    {
        Backend = rank.Backend,
        Experts = rank.Group.Size,
        TopK = rank.Group.Size,
        Hidden = Hidden,
        MaxTokensPerRank = 1,
        Element = ElementType.Single,
        WorkerThreads = 1,
    };

    /// <summary>One step; true once a rank has said that it is the last.</summary>
    /// <param name="step">Its number, which the rows hold.</param>
    /// <param name="isLast">What this rank says.</param>
    public bool Run(int step, bool isLast = false)
    {
        Array.Fill(_x, step + (0.25f * _rank.Rank));
        _x[0] = isLast ? 1 : 0;
        using Dispatched d = _buffer.Dispatch(_x, _choices, default, new DispatchOptions { Layout = RowLayout.ExpertMajor });
        ReadOnlySpan<float> rows = d.Rows.AsSpan<float>();
        bool isOver = false;
        for (int source = 0; source < _rank.Group.Size; source++)
        {
            isOver |= rows[source * Hidden] == 1;
            Require(rows[(source * Hidden) + 1] == step + (0.25f * source), step, "received");
        }
        _buffer.Combine(d.Rows, d.Handle, _output);
        Require(_output[1] == _rank.Group.Size * _x[1], step, "combined");
        return isOver;
    }

    public void Dispose() => _buffer.Dispose();

    private void Require(bool holds, int step, string what)
    {
        if (!holds) throw new InvalidOperationException($"rank {_rank.Rank}, step {step}: what was {what} is wrong");
    }
}

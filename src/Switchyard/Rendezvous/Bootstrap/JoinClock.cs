namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>How long a join may take: until its timeout, or until its caller gives up.</summary>
internal sealed class JoinClock : IDisposable
{
    private readonly CancellationToken _caller;
    private readonly CancellationTokenSource _limit;

    public JoinClock(TimeSpan timeout, CancellationToken caller)
    {
        _caller = caller;
        _limit = CancellationTokenSource.CreateLinkedTokenSource(caller);
        _limit.CancelAfter(timeout);
        Timeout = timeout;
    }

    /// <summary>Ends every wait of the join.</summary>
    public CancellationToken Token => _limit.Token;

    public TimeSpan Timeout { get; }

    /// <summary>The time is over, and it was not the caller that gave up.</summary>
    public bool IsOver => _limit.IsCancellationRequested && !_caller.IsCancellationRequested;

    public JoinException Late(int rank, string what) =>
        new($"Rank {rank} could not join within JoinTimeout ({Timeout.TotalSeconds:0.###} s): {what}.");

    public void Dispose() => _limit.Dispose();
}

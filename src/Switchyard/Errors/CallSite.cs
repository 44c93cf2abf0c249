namespace Switchyard;

/// <summary>The kinds of call on a buffer.</summary>
public enum Operation : byte
{
    /// <summary>No call was running.</summary>
    None = 0,

    /// <summary>Rows go to the ranks that hold their experts.</summary>
    Dispatch = 1,

    /// <summary>Rows go where an earlier dispatch sent its rows.</summary>
    CachedDispatch = 2,

    /// <summary>Results come back and are summed.</summary>
    Combine = 3,
}

/// <summary>The steps of a call in which it may wait for a peer.</summary>
public enum CallPhase : byte
{
    /// <summary>Not in a call.</summary>
    None = 0,

    /// <summary>Joining the group or creating a buffer.</summary>
    Create = 1,

    /// <summary>Waiting for peers to have read results of an earlier combine, so that their memory can be reused.</summary>
    AwaitDone = 2,

    /// <summary>Waiting for a peer's announcement: it has not made this call yet.</summary>
    AwaitAnnouncement = 3,

    /// <summary>Waiting for a peer's rows.</summary>
    AwaitRows = 4,

    /// <summary>Rebuilding the group.</summary>
    Rebuild = 5,
}

/// <summary>Where a call stood when it failed.</summary>
/// <param name="Operation">The call.</param>
/// <param name="Phase">The step of it.</param>
/// <param name="Epoch">The number of the call on its buffer, from 1.</param>
public readonly record struct CallSite(Operation Operation, CallPhase Phase, long Epoch)
{
    /// <inheritdoc/>
    public override string ToString() => Operation == Operation.None ? Phase.ToString() : $"{Operation} {Epoch}, {Phase}";
}

namespace Switchyard;

/// <summary>What to do after an error.</summary>
public enum Recovery
{
    /// <summary>
    /// Nothing is broken: the call failed alike on all ranks and consumed its epoch; the next call may follow. (<see cref="DeviceOptions"/> tells of
    /// calls that did not wait for it. Where a stream could not be captured, this rank alone has not made the call.)
    /// </summary>
    CallAgain,

    /// <summary>The buffer is broken and every further call rethrows: make a new one; if a rank is gone or late, rebuild the group first.</summary>
    Rebuild,

    /// <summary>This rank is no longer in its group: it may join again where the others offer a place.</summary>
    Join,
}

/// <summary>
/// The base of every error that is not a caller's mistake (those are ordinary argument exceptions, thrown before anything is sent).
/// </summary>
/// <param name="message">What happened, with the values it happened with.</param>
/// <param name="recovery">What to do next.</param>
/// <param name="inner">The cause, where there is one.</param>
public abstract class SwitchyardException(string message, Recovery recovery, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Whether to call again or to rebuild.</summary>
    public Recovery Recovery { get; } = recovery;

    private protected static string TellOf(int callsBehind) => callsBehind switch
    {
        0 => "",
        1 => " This rank had enqueued 1 call behind it, which did nothing.",
        > 1 => $" This rank had enqueued {callsBehind} calls behind it, which did nothing.",
        _ => " Calls that this rank had enqueued behind it did nothing.",
    };
}

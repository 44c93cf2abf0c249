using Switchyard.Planning;

namespace Switchyard;

/// <summary>
/// The plan of a dispatch: where each row went. It names rows, not memory; combine and cached dispatches take it. All ranks use handles of
/// the same dispatch in the same call.
/// </summary>
/// <remarks>
/// It lives as long as the results that were dispatched by it. Where it is needed longer, <see cref="Keep"/> it, and dispose it in the end: the buffer
/// reuses the plan's memory, some of which may be a device's.
/// </remarks>
public readonly record struct DispatchHandle : IDisposable
{
    private readonly RoutingPlan? _plan;
    private readonly long _birthEpoch;

    internal DispatchHandle(RoutingPlan plan)
    {
        _plan = plan;
        _birthEpoch = plan.BirthEpoch;
    }

    /// <summary>How the rows were arranged.</summary>
    /// <exception cref="ObjectDisposedException">The plan is gone.</exception>
    public RowLayout Layout => Plan.Layout;

    /// <summary>Tokens this rank dispatched.</summary>
    /// <exception cref="ObjectDisposedException">The plan is gone.</exception>
    public int Tokens => Plan.Tokens;

    /// <summary>Keeps the plan, also when its results are gone, until <see cref="Dispose"/>. Idempotent; for all copies of the handle.</summary>
    /// <returns>The handle.</returns>
    /// <exception cref="ObjectDisposedException">The plan is gone.</exception>
    public DispatchHandle Keep()
    {
        Plan.Keep();
        return this;
    }

    /// <summary>Undoes <see cref="Keep"/>. Idempotent; results that are alive go on holding the plan.</summary>
    public void Dispose()
    {
        if (_plan is { } plan) plan.Unkeep(_birthEpoch);
    }

    internal RoutingPlan Plan
    {
        get
        {
            if (_plan is null) throw new ArgumentException("The handle is empty: take one from Dispatched.Handle.", "handle");
            if (_plan.IsHandleOf(_birthEpoch)) return _plan;
            throw new ObjectDisposedException(
                nameof(DispatchHandle), "The plan of this handle is gone with the last result that was dispatched by it: Keep the handle to use it longer.");
        }
    }
}

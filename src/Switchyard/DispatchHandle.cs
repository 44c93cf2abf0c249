using Switchyard.Planning;

namespace Switchyard;

/// <summary>
/// The plan of a dispatch: where each row went. It names rows, not memory, and outlives the result it came with; combine and cached
/// dispatches take it. All ranks use handles of the same dispatch in the same call.
/// </summary>
/// <remarks>Disposing a handle lets the buffer reuse its arrays; one that is never disposed is collected as garbage.</remarks>
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
    /// <exception cref="ObjectDisposedException">The handle was disposed.</exception>
    public RowLayout Layout => Plan.Layout;

    /// <summary>Tokens this rank dispatched.</summary>
    /// <exception cref="ObjectDisposedException">The handle was disposed.</exception>
    public int Tokens => Plan.Tokens;

    /// <summary>Gives up the plan. Idempotent; every copy of the handle is disposed with it.</summary>
    public void Dispose()
    {
        if (_plan is { } plan) plan.ReleaseHandle(_birthEpoch);
    }

    internal RoutingPlan Plan
    {
        get
        {
            if (_plan is null) throw new ArgumentException("The handle is empty: take one from Dispatched.Handle.", "handle");
            ObjectDisposedException.ThrowIf(!_plan.IsHandleOf(_birthEpoch), typeof(DispatchHandle));
            return _plan;
        }
    }
}

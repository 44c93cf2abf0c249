namespace Switchyard.Cli.Bench.Work;

/// <summary>Where one rank's calls run, and all that differs by it: memory, clock, the copy, and how results are looked at.</summary>
internal abstract class Stage : IDisposable
{
    public abstract ExpertBackend Backend { get; }

    /// <summary>Of what runs the calls.</summary>
    public abstract string Name { get; }

    /// <summary>The version of what drives that.</summary>
    public abstract string Driver { get; }

    /// <summary>Whether calls are enqueued and return at once.</summary>
    public abstract bool Enqueues { get; }

    /// <summary>Where enqueued calls stand.</summary>
    public abstract DeviceOptions Device { get; }

    /// <summary>By the way of copying, an interval for each <see cref="SampleCopy"/>.</summary>
    public abstract Interval[][] Copies { get; }

    /// <summary>Bytes that this rank copies in a sample.</summary>
    public abstract long CopyBytes { get; }

    /// <summary>Puts rows where calls take them from; they are this object's from now on.</summary>
    public abstract IRows Place(NativeRows rows);

    /// <summary>Makes a call when all ranks have come, and returns when its work is done.</summary>
    public abstract Interval Time(Action call);

    /// <summary>
    /// As <see cref="Time"/>, for a dispatch of <paramref name="buffer"/>: when the ranks met and when each part of the call ended, in the order of
    /// <see cref="Report.DispatchParts"/>; nothing where no parts can be told apart.
    /// </summary>
    public virtual long[] TimeParts(ExpertBuffer buffer, Action dispatch)
    {
        _ = Time(dispatch);
        return [];
    }

    /// <summary>Copies when all ranks have come.</summary>
    public abstract void SampleCopy();

    /// <summary>Waits for enqueued work.</summary>
    public abstract void Finish();

    public abstract void Poison(TensorView view);

    /// <summary>Has what came checked; if it is right, makes the experts' results of it.</summary>
    public abstract string? CheckReceived(Oracle oracle, in Dispatched received, TensorView results);

    public abstract string? CheckCombined(Oracle oracle, TensorView output);

    public abstract void Dispose();
}

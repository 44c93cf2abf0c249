using System.Collections.Concurrent;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Engine;

/// <summary>
/// A device as this process uses it: its context and its kernels, made at first use and kept to the end, since to load a kernel may wait for those
/// that run.
/// </summary>
internal sealed class CudaRuntime
{
    /// <summary>As much as a kernel reads before it sees that its buffer is broken.</summary>
    private const int IdleBytes = 1 << 16;

    /// <summary>Of who is to give back, whether launches are under way.</summary>
    private const int MostLooks = 1000;

    private static readonly ConcurrentDictionary<int, Lock> _making = new();
    private static readonly ConcurrentDictionary<int, CudaRuntime> _all = new();
    // Of all devices together: a driver that gives back what one of them used may wait for the kernels of all.
    private static readonly Lock _graves = new();
    private static readonly List<CudaEngine> _engines = [];
    private static readonly Queue<(CudaContext Context, Action GiveBack)> _unburied = new();
    private static int _launching;
    private static int _burying;
    private static bool _isGivingBack;
    private readonly Lock _gate = new();
    private readonly CudaStream _stream;

    private CudaRuntime(int ordinal)
    {
        Device = CudaDevice.Get(ordinal);
        Multiprocessors = Device.MultiprocessorCount;
        Context = CudaContext.Retain(Device);
        KernelSet? kernels = null;
        CudaStream? stream = null;
        try
        {
            Kernels = kernels = KernelSet.Load(Context);
            _stream = stream = CudaStream.Create(Context);
            WarmUp();
        }
        catch
        {
            stream?.Dispose();
            kernels?.Dispose();
            Context.Dispose();
            throw;
        }
    }

    public CudaDevice Device { get; }

    public CudaContext Context { get; }

    public KernelSet Kernels { get; }

    public int Multiprocessors { get; }

    /// <exception cref="CudaUnavailableException">There is no driver, or the device cannot run the kernels.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such device.</exception>
    /// <exception cref="CudaException">Its context or kernels cannot be made; they may be later.</exception>
    public static CudaRuntime Of(int ordinal)
    {
        if (_all.TryGetValue(ordinal, out CudaRuntime? runtime)) return runtime;
        lock (_making.GetOrAdd(ordinal, static _ => new Lock())) return _all.GetOrAdd(ordinal, static each => new CudaRuntime(each));
    }

    /// <summary>Copies between any memories; returns when it is done. Not for hot paths.</summary>
    public void CopyNow(nint target, nint source, long bytes)
    {
        using var relaxed = new RelaxedCapture();
        lock (_gate)
        {
            _stream.Copy(target, source, bytes);
            _stream.Synchronize();
        }
    }

    public void FillNow(nint target, byte value, long bytes)
    {
        using var relaxed = new RelaxedCapture();
        lock (_gate)
        {
            _stream.Fill(target, value, bytes);
            _stream.Synchronize();
        }
    }

    /// <summary>Knows of an engine until it is buried.</summary>
    public static void Add(CudaEngine engine)
    {
        lock (_graves) _engines.Add(engine);
        Bury();
    }

    /// <summary>
    /// Gives memory back when nothing runs: to unmap waits for all kernels of the process, and keeps others from being launched meanwhile, for which
    /// those may wait.
    /// </summary>
    public void Retire(Action giveBack)
    {
        lock (_graves) _unburied.Enqueue((Context, giveBack));
        if (!Bury()) ThreadPool.UnsafeQueueUserWorkItem(static _ => BuryLater(), null);
    }

    /// <summary>While it lives, nothing is given back: a kernel is on its way. Short: not across waits.</summary>
    public static LaunchScope BeginLaunch()
    {
        while (true)
        {
            Interlocked.Increment(ref _launching);
            if (Volatile.Read(ref _burying) == 0) return new LaunchScope(begun: true);
            Interlocked.Decrement(ref _launching);
            Thread.Yield();
        }
    }

    private void WarmUp()
    {
        var broken = new DeviceMemory(this, IdleBytes);
        try
        {
            FillNow(broken.Address, 0xFF, broken.Bytes);
            var idle = new ExchangeArgs { State = broken.Address };
            idle.Arenas[0] = broken.Address;
            Kernels.WarmUp(_stream, idle);
            _stream.Synchronize();
        }
        catch
        {
            broken.Dispose();
            throw;
        }
        Retire(broken.Dispose);
    }

    private static bool Bury()
    {
        lock (_graves)
        {
            // What is given back may bring more, which the loop that gives it back takes too.
            if (_unburied.Count == 0 || _isGivingBack) return true;
            using var relaxed = new RelaxedCapture();
            Interlocked.Exchange(ref _burying, 1);
            try
            {
                // A launch may wait until the device takes it, for kernels that wait for one that is held back here.
                for (int looks = 0; Volatile.Read(ref _launching) != 0; looks++)
                {
                    if (looks == MostLooks) return false;
                    Thread.Yield();
                }
                if (!_engines.TrueForAll(engine => engine.IsIdle)) return false;
                _isGivingBack = true;
                while (_unburied.TryDequeue(out (CudaContext Context, Action GiveBack) next))
                {
                    using CudaContext.Scope scope = next.Context.EnterUnlessBroken();
                    next.GiveBack();
                }
                _engines.RemoveAll(engine => engine.IsRetired);
                return true;
            }
            finally
            {
                _isGivingBack = false;
                Volatile.Write(ref _burying, 0);
            }
        }
    }

    private static void BuryLater()
    {
        while (!Bury()) Thread.Sleep(20);
    }

    /// <summary>A launch that is under way.</summary>
    public readonly ref struct LaunchScope
    {
        private readonly bool _begun;

        internal LaunchScope(bool begun) => _begun = begun;

        public void Dispose()
        {
            if (_begun) Interlocked.Decrement(ref _launching);
        }
    }
}

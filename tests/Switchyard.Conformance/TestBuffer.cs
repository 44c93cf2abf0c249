using System.Runtime.CompilerServices;

namespace Switchyard.Conformance;

/// <summary>
/// A buffer whose tensors a scenario gives and reads on the host, wherever its backend wants them: for a device's backend arguments are copied there
/// before a call, and what it wrote is copied back.
/// </summary>
public sealed class TestBuffer(ExpertBuffer inner, DeviceAccess? device) : IDisposable
{
    private readonly List<TestResult> _results = [];

    public ExpertBuffer Inner { get; } = inner;

    internal DeviceAccess? Access { get; } = device;

    public TimeSpan Deadline
    {
        get => Inner.Deadline;
        set => Inner.Deadline = value;
    }

    public ReadOnlySpan<int> LocalExperts => Inner.LocalExperts;

    public ReadOnlySpan<long> CumulativeTokensPerExpert => Inner.CumulativeTokensPerExpert;

    public TimeSpan WaitedFor(int rank) => Inner.WaitedFor(rank);

    public TestResult Dispatch(
        ReadOnlyTensorView x, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights = default, in DispatchOptions options = default)
    {
        Access?.Forget();
        return Keep(Inner.Dispatch(Given(x), Given(topkIndices), Given(topkWeights), options));
    }

    public TestResult Dispatch(ScaledRows x, ReadOnlyTensorView topkIndices, ReadOnlyTensorView topkWeights = default, in DispatchOptions options = default)
    {
        Access?.Forget();
        return Keep(Inner.Dispatch(new ScaledRows(Given(x.Rows), Given(x.Scales)), Given(topkIndices), Given(topkWeights), options));
    }

    public TestResult Dispatch(ReadOnlyTensorView x, DispatchHandle handle, Float8Scaling quantize = Float8Scaling.None)
    {
        Access?.Forget();
        return Keep(Inner.Dispatch(Given(x), handle, quantize: quantize));
    }

    public TestResult Dispatch(ScaledRows x, DispatchHandle handle)
    {
        Access?.Forget();
        return Keep(Inner.Dispatch(new ScaledRows(Given(x.Rows), Given(x.Scales)), handle));
    }

    public void Combine(ReadOnlyTensorView results, DispatchHandle handle, TensorView output, in CombineOptions options = default)
    {
        if (Access is null)
        {
            Inner.Combine(results, handle, output, options);
            return;
        }
        Access.Forget();
        TensorView there = Writable(output), reduced = Writable(options.ReducedWeights);
        Inner.Combine(InArena(results, out TensorView inArena) ? inArena : Given(results), handle, there, new()
        {
            Bias = Given(options.Bias),
            SecondBias = Given(options.SecondBias),
            ChoiceWeights = Given(options.ChoiceWeights),
            RowWeights = Given(options.RowWeights),
            ReducedWeights = reduced,
        });
        CopyBack(output, there);
        CopyBack(options.ReducedWeights, reduced);
    }

    private unsafe void CopyBack(TensorView target, TensorView there)
    {
        fixed (byte* here = &target.Origin) Access!.Copy((nint)here, there.Address, BytesOf(target));
    }

    public void Dispose() => Inner.Dispose();

    internal void Remove(TestResult result) => _results.Remove(result);

    internal static long BytesOf(ReadOnlyTensorView view) =>
        view.IsAbsent || view.Length == 0 ? 0 : (((view.Rows - 1) * view.RowStride) + view.RowLength) * view.Element.SizeInBytes();

    private TestResult Keep(Dispatched dispatched)
    {
        var result = new TestResult(this, dispatched);
        _results.Add(result);
        return result;
    }

    /// <summary>Whether a view is the host's copy of rows in the arena, which then are brought up to date.</summary>
    private bool InArena(ReadOnlyTensorView view, out TensorView inArena)
    {
        inArena = default;
        foreach (TestResult result in _results)
        {
            if (result.FindMirror(view, out inArena)) return true;
        }
        return false;
    }

    private ReadOnlyTensorView Given(ReadOnlyTensorView view) => Access is null ? view : Copied(view);

    private TensorView Writable(TensorView view) => Copied(view);

    private unsafe TensorView Copied(ReadOnlyTensorView view)
    {
        if (view.IsAbsent) return default;
        long bytes = BytesOf(view);
        nint there = Access!.Allocate(bytes);
        fixed (byte* here = &view.Origin) Access.Copy(there, (nint)here, bytes);
        return TensorView.FromPointer(there, view.Rows, view.RowLength, view.RowStride, view.Element, Access.Device);
    }
}

/// <summary>What a <see cref="TestBuffer"/> received, as the host sees it.</summary>
public sealed class TestResult(TestBuffer buffer, Dispatched inner) : IDisposable
{
    private byte[]? _rows;
    private byte[]? _scales;
    private byte[]? _results;

    public Dispatched Inner { get; } = inner;

    public int RowCount => Inner.RowCount;

    public RowLayout Layout => Inner.Layout;

    public TensorView Rows => buffer.Access is null ? Inner.Rows : Mirror(ref _rows, Inner.Rows);

    public TensorView Scales => buffer.Access is null || Inner.Scales.IsAbsent ? Inner.Scales : Mirror(ref _scales, Inner.Scales);

    public TensorView ResultRows => buffer.Access is null ? Inner.ResultRows : Mirror(ref _results, Inner.ResultRows);

    public ReadOnlySpan<int> TopkIndices => buffer.Access is null ? Inner.TopkIndices : Copy<int>(Inner.TopkIndicesView);

    public ReadOnlySpan<float> TopkWeights => buffer.Access is null ? Inner.TopkWeights : Copy<float>(Inner.TopkWeightsView);

    public ReadOnlySpan<RowSource> Sources =>
        buffer.Access is null ? Inner.Sources : System.Runtime.InteropServices.MemoryMarshal.Cast<int, RowSource>(Copy<int>(Inner.SourcesView));

    public ReadOnlySpan<int> TokensPerExpert => Inner.TokensPerExpert;

    public ReadOnlySpan<int> ExpertOffsets => Inner.ExpertOffsets;

    public ReadOnlySpan<int> RowsPerSource => Inner.RowsPerSource;

    public ReadOnlySpan<int> Counts => buffer.Access is null ? Inner.Counts.AsSpan<int>() : Copy<int>(Inner.Counts);

    public DispatchHandle Handle => Inner.Handle;

    public void Dispose()
    {
        buffer.Remove(this);
        Inner.Dispose();
    }

    /// <summary>Whether a view is of the host's copy of rows or results: then those are written to the arena.</summary>
    internal bool FindMirror(ReadOnlyTensorView view, out TensorView inArena)
    {
        inArena = default;
        if (view.Length == 0) return false;
        if (IsOf(view, _rows)) inArena = Inner.Rows;
        else if (IsOf(view, _results)) inArena = Inner.ResultRows;
        else return false;
        buffer.Access!.Copy(inArena.Address, view.Address, TestBuffer.BytesOf(view));
        return true;
    }

    private static bool IsOf(ReadOnlyTensorView view, byte[]? mirror) => mirror is { Length: > 0 } && Unsafe.AreSame(in view.Origin, in mirror[0]);

    private TensorView Mirror(ref byte[]? mirror, TensorView there)
    {
        mirror ??= GC.AllocateUninitializedArray<byte>((int)TestBuffer.BytesOf(there), pinned: true);
        nint here = mirror.Length == 0 ? 0 : System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(mirror, 0);
        buffer.Access!.Copy(here, there.Address, mirror.Length);
        return TensorView.FromPointer(here, there.Rows, there.RowLength, there.RowStride, there.Element);
    }

    private unsafe T[] Copy<T>(TensorView there)
        where T : unmanaged
    {
        var values = new T[TestBuffer.BytesOf(there) / sizeof(T)];
        fixed (T* here = values) buffer.Access!.Copy((nint)here, there.Address, TestBuffer.BytesOf(there));
        return values;
    }
}

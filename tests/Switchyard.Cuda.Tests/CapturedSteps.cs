using Switchyard.Cuda.Driver;

namespace Switchyard.Cuda.Tests;

/// <summary>A dispatch and a combine of some kind, of three ranks, to be enqueued inside and outside of graphs; and what they brought.</summary>
internal sealed class CapturedSteps : IDisposable
{
    private const int Ranks = 3;
    private readonly GraphTests.Captured _kind;
    private readonly CudaEvent[] _done;
    private readonly CudaBytes[] _elsewhere;
    private readonly CudaBytes[] _reduced;
    private readonly List<Step> _steps = [];

    public CapturedSteps(Gpu gpu, GraphTests.Captured kind)
    {
        _kind = kind;
        bool isByExpert = kind is GraphTests.Captured.ExpertMajor or GraphTests.Captured.PreReduced or GraphTests.Captured.ZeroPadding or GraphTests.Captured.ChoiceWeights;
        Layout = isByExpert ? RowLayout.ExpertMajor : RowLayout.RankMajor;
        int rows = Ranks * CallRanks.Tokens * (isByExpert ? CallRanks.TopK : 1);
        Calls = new CallRanks(gpu, Ranks, capacity: rows);
        _done = [.. Calls.Streams.Select(_ => CudaEvent.Create(gpu.Context))];
        _elsewhere = [.. Calls.Streams.Select(_ => gpu.Allocate((rows + 64) * CallRanks.Hidden * sizeof(float)))];
        _reduced = [.. Calls.Streams.Select(_ => gpu.Allocate(CallRanks.Tokens * CallRanks.TopK * sizeof(float)))];
    }

    /// <summary>A rank's part.</summary>
    /// <param name="Rank">The rank.</param>
    /// <param name="Received">What it received first.</param>
    /// <param name="Again">What it received by the first one's handle; otherwise the same.</param>
    public sealed record Step(int Rank, Dispatched Received, Dispatched Again);

    public CallRanks Calls { get; }

    public RowLayout Layout { get; }

    /// <summary>Whether sums are those of the rows that were dispatched.</summary>
    public bool AddsRowsAsTheyCame => _kind is not (GraphTests.Captured.ChoiceWeights or GraphTests.Captured.Biases or GraphTests.Captured.Quantized or GraphTests.Captured.QuantizedByHandle or GraphTests.Captured.Scaled);

    public void Enqueue(int rank)
    {
        DeviceOptions device = Calls.On(rank) with { Overlap = _kind == GraphTests.Captured.BesideTheStream, SignalEvent = _done[rank].Handle };
        Dispatched received = Dispatch(rank, device);
        Dispatched again = _kind switch
        {
            GraphTests.Captured.ByHandle => Calls.Dispatch(rank, received.Handle, device),
            GraphTests.Captured.QuantizedByHandle => Calls.Buffers[rank].Dispatch(Calls.Rows(rank), received.Handle, device, Float8Scaling.PowerOfTwo),
            _ => received,
        };
        _steps.Add(new Step(rank, received, again));
        ReadOnlyTensorView results = again.Rows;
        long bytes = (long)again.RowCount * CallRanks.Hidden * sizeof(float);
        if (_kind is GraphTests.Captured.Quantized or GraphTests.Captured.QuantizedByHandle or GraphTests.Captured.Scaled)
        {
            results = again.ResultRows;
            Calls.Streams[rank].Fill(results.Address, 0x3F, bytes);
        }
        else if (_kind == GraphTests.Captured.ResultsElsewhere)
        {
            Calls.Streams[rank].Copy(_elsewhere[rank].Address, results.Address, bytes);
            results = ReadOnlyTensorView.FromPointer(_elsewhere[rank].Address, again.RowCount, CallRanks.Hidden, CallRanks.Hidden, ElementType.Single, 0);
        }
        Combine(rank, results, received, device);
        Calls.Streams[rank].WaitFor(_done[rank]);
    }

    /// <summary>What was enqueued since, to be kept.</summary>
    public Step[] Take()
    {
        Step[] taken = [.. _steps];
        _steps.Clear();
        return taken;
    }

    public static void Forget(Step[] steps)
    {
        foreach (Step step in steps)
        {
            step.Again.Dispose();
            step.Received.Dispose();
        }
    }

    public void Forget() => Forget(Take());

    /// <summary>What combines write; so that the next one must.</summary>
    public void Poison()
    {
        Calls.Poison();
        foreach (CudaBytes each in _reduced) each.Clear();
    }

    /// <summary>By rank: what came and what was summed, once all is done.</summary>
    public byte[][] Observe() => Observe([.. _steps]);

    public byte[][] Observe(Step[] steps)
    {
        Calls.Synchronize();
        return [.. steps.Select(step => (byte[])
        [
            .. RowsOf(step.Rank, step.Received, step.Received), .. RowsOf(step.Rank, step.Received, step.Again),
            .. Calls.Read<byte>(step.Rank, _reduced[step.Rank].Address, CallRanks.Tokens * CallRanks.TopK * sizeof(float)),
            .. Calls.Read<byte>(step.Rank, Calls.Output[step.Rank], CallRanks.Tokens * CallRanks.Hidden * sizeof(float)),
        ])];
    }

    public void Dispose()
    {
        Forget();
        Calls.Dispose();
        foreach (CudaBytes each in _elsewhere.Concat(_reduced)) each.Dispose();
        foreach (CudaEvent each in _done) each.Dispose();
    }

    private Dispatched Dispatch(int rank, DeviceOptions device)
    {
        var options = new DispatchOptions
        {
            FixedShape = true,
            Layout = Layout,
            PreReduce = _kind == GraphTests.Captured.PreReduced,
            ZeroPadding = _kind == GraphTests.Captured.ZeroPadding,
            ExpertAlignment = _kind == GraphTests.Captured.ZeroPadding ? 4 : 1,
            Quantize = _kind == GraphTests.Captured.Quantized ? Float8Scaling.Single : Float8Scaling.None,
            Device = device,
        };
        if (_kind == GraphTests.Captured.Scaled) return Calls.DispatchScaled(rank, options);
        return Calls.DispatchWith(rank, options, _kind == GraphTests.Captured.Weights ? ChoiceWeights(rank) : default);
    }

    /// <summary>The first numbers of the rank's rows.</summary>
    private ReadOnlyTensorView ChoiceWeights(int rank) => ReadOnlyTensorView.FromPointer(Calls.X[rank], CallRanks.Tokens, CallRanks.TopK, CallRanks.TopK, ElementType.Single, 0);

    private void Combine(int rank, ReadOnlyTensorView results, Dispatched received, DeviceOptions device)
    {
        switch (_kind)
        {
            case GraphTests.Captured.Weights:
                TensorView reduced = TensorView.FromPointer(_reduced[rank].Address, CallRanks.Tokens, CallRanks.TopK, CallRanks.TopK, ElementType.Single, 0);
                Calls.Combine(rank, results, received.Handle, new CombineOptions { RowWeights = received.TopkWeightsView, ReducedWeights = reduced, Device = device });
                break;
            case GraphTests.Captured.ChoiceWeights:
                Calls.Combine(rank, results, received.Handle, new CombineOptions { ChoiceWeights = ChoiceWeights(rank), Device = device });
                break;
            case GraphTests.Captured.Biases:
                Calls.Combine(rank, results, received.Handle, new CombineOptions { Bias = Calls.Rows(rank), SecondBias = Calls.Rows(rank), Device = device });
                break;
            default:
                Calls.Combine(rank, results, received.Handle, device);
                break;
        }
    }

    /// <summary>Rows that came, and where they came from; of those that did not, nothing is known.</summary>
    private byte[] RowsOf(int rank, Dispatched first, Dispatched received)
    {
        int[] sources = Calls.Read<int>(rank, first.SourcesView.Address, 2 * received.RowCount);
        int padded = _kind == GraphTests.Captured.ZeroPadding ? Calls.Read<int>(rank, first.Counts.Address, 1)[0] : 0;
        byte[] rows = Bytes(rank, received.Rows), scales = received.Scales.IsAbsent ? [] : Bytes(rank, received.Scales);
        int rowBytes = rows.Length / received.RowCount, scaleBytes = scales.Length / received.RowCount;
        var came = new List<byte>();
        for (int row = 0; row < received.RowCount; row++)
        {
            if (sources[2 * row] < 0 && row >= padded) continue;
            came.AddRange(BitConverter.GetBytes(sources[2 * row]));
            came.AddRange(BitConverter.GetBytes(sources[(2 * row) + 1]));
            came.AddRange(rows.AsSpan(row * rowBytes, rowBytes));
            came.AddRange(scales.AsSpan(row * scaleBytes, scaleBytes));
        }
        return [.. came];
    }

    private byte[] Bytes(int rank, TensorView tensor) => Calls.Read<byte>(rank, tensor.Address, (int)(tensor.Rows * tensor.RowLength) * tensor.Element.SizeInBytes());
}

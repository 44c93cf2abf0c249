using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Tests.Interop;

namespace Switchyard.Cuda.Tests;

/// <summary>Ranks on one device, or on one each, that one thread drives: none of their calls waits on the host.</summary>
internal sealed class CallRanks : IDisposable
{
    public const int Tokens = 12;
    public const int Hidden = 64;
    public const int TopK = 3;
    public const int Experts = 8;
    private readonly ExpertGroup[] _groups;
    private readonly int[] _devices;
    private readonly CudaAccess[] _memory;
    private readonly Random _random = new(Random.Shared.Next());

    public CallRanks(Gpu gpu, int ranks, int? capacity = null, TimeSpan? deadline = null, long budget = 1 << 20)
        : this([.. Enumerable.Repeat(gpu, ranks)], capacity, deadline, budget)
    {
    }

    /// <param name="gpus">Each rank's.</param>
    public CallRanks(Gpu[] gpus, int? capacity = null, TimeSpan? deadline = null, long budget = 1 << 20)
    {
        int ranks = gpus.Length;
        _groups = ExpertGroup.CreateLocal(ranks);
        _devices = [.. gpus.Select(gpu => gpu.Device.Ordinal)];
        ExpertBufferOptions options = OptionsFor(ranks, capacity) with { MemoryBudget = budget, Deadline = deadline ?? TimeSpan.FromSeconds(20) };
        Buffers = Task.WhenAll(_groups.Select(group => ExpertBuffer.CreateAsync(
            group, options with { Backend = CudaBackend.For(_devices[group.Rank]) }))).GetAwaiter().GetResult();
        Streams = [.. gpus.Select(gpu => CudaStream.Create(gpu.Context))];
        _memory = [.. _devices.Select(device => new CudaAccess(device, 1 << 20))];
        X = [.. _memory.Select(memory => memory.Allocate(Tokens * Hidden * sizeof(float)))];
        Indices = [.. _memory.Select(memory => memory.Allocate(Tokens * TopK * sizeof(int)))];
        Output = [.. _memory.Select(memory => memory.Allocate(Tokens * Hidden * sizeof(float)))];
        XOnHost = new float[ranks][];
        ChoicesOnHost = new int[ranks][];
    }

    /// <summary>The errors of ranks none of which gets a buffer.</summary>
    public static async Task<TransportException[]> CreateRefusedAsync(int ranks, Func<int, ExpertBufferOptions> options)
    {
        ExpertGroup[] groups = ExpertGroup.CreateLocal(ranks);
        TransportException[] errors = await Task.WhenAll(groups.Select(group => Assert.ThrowsAsync<TransportException>(() => ExpertBuffer.CreateAsync(group, options(group.Rank)))));
        foreach (ExpertGroup group in groups) group.Dispose();
        return errors;
    }

    public static ExpertBufferOptions OptionsFor(int ranks, int? capacity = null) => new()
    {
        Backend = CudaBackend.For(0),
        Experts = Experts,
        TopK = TopK,
        Hidden = Hidden,
        MaxTokensPerRank = Tokens,
        Element = ElementType.Single,
        ReceiveCapacity = capacity ?? (ranks * Tokens),
        MemoryBudget = 1 << 20,
        Multiprocessors = 4,
    };

    public ExpertBuffer[] Buffers { get; }

    public CudaStream[] Streams { get; }

    public int Count => _groups.Length;

    public nint[] X { get; }

    public nint[] Indices { get; }

    public nint[] Output { get; }

    public float[][] XOnHost { get; }

    public int[][] ChoicesOnHost { get; }

    /// <summary>Tokens of the first rank that chose an expert.</summary>
    public int RowsOfTheFirst => Enumerable.Range(0, Tokens).Count(token => ChoicesOnHost[0].AsSpan(token * TopK, TopK).ContainsAnyExcept(-1));

    public ExpertGroup Group(int rank) => _groups[rank];

    /// <summary>New rows and choices for all ranks, the output poisoned.</summary>
    public void Draw()
    {
        for (int rank = 0; rank < Count; rank++)
        {
            XOnHost[rank] = [.. Enumerable.Range(0, Tokens * Hidden).Select(_ => _random.NextSingle() - 0.5f)];
            ChoicesOnHost[rank] = [.. Enumerable.Range(0, Tokens).SelectMany(_ => Choices())];
            Write<float>(rank, X[rank], XOnHost[rank]);
            Write<int>(rank, Indices[rank], ChoicesOnHost[rank]);
        }
        Poison();
    }

    public void Poison()
    {
        for (int rank = 0; rank < Count; rank++) _memory[rank].Fill(Output[rank], 0xA5, Tokens * Hidden * sizeof(float));
    }

    /// <summary>No choices for any rank, beside what was drawn.</summary>
    public void ChooseNothing()
    {
        for (int rank = 0; rank < Count; rank++) Write<int>(rank, Indices[rank], Enumerable.Repeat(-1, Tokens * TopK).ToArray());
    }

    /// <summary>How many results of fixed shape all ranks can hold at a time. (The first time ends where the second has no gaps.)</summary>
    public int RoomFor() => Math.Max(Fill(), Fill());

    public Dispatched Dispatch(int rank, DeviceOptions device, bool isFixed = true) => DispatchWith(rank, new() { FixedShape = isFixed, Device = device });

    public Dispatched DispatchWith(int rank, DispatchOptions options, ReadOnlyTensorView weights = default) => Buffers[rank].Dispatch(
        Rows(rank), Choices(rank), weights, options);

    /// <summary>The first quarter of each row as bytes that travel as they are, with three of its numbers as scales.</summary>
    public Dispatched DispatchScaled(int rank, DispatchOptions options) => Buffers[rank].Dispatch(
        new ScaledRows(
            ReadOnlyTensorView.FromPointer(X[rank], Tokens, Hidden, Hidden * sizeof(float), ElementType.Byte, _devices[rank]),
            ReadOnlyTensorView.FromPointer(X[rank], Tokens, 3, Hidden, ElementType.Single, _devices[rank])),
        Choices(rank), default, options);

    /// <summary>The same rows the same way.</summary>
    public Dispatched Dispatch(int rank, DispatchHandle handle, DeviceOptions device) => Buffers[rank].Dispatch(Rows(rank), handle, device);

    public ReadOnlyTensorView Rows(int rank) => Rows(rank, Tokens);

    /// <summary>Memory that begins with the rank's rows, which the device does not own beyond them.</summary>
    public ReadOnlyTensorView Rows(int rank, int count) => ReadOnlyTensorView.FromPointer(X[rank], count, Hidden, Hidden, ElementType.Single, _devices[rank]);

    public void Combine(int rank, Dispatched received, DeviceOptions device) => Combine(rank, received.Rows, received.Handle, device);

    public void Combine(int rank, ReadOnlyTensorView results, DispatchHandle handle, DeviceOptions device) => Combine(rank, results, handle, new CombineOptions { Device = device });

    public void Combine(int rank, ReadOnlyTensorView results, DispatchHandle handle, in CombineOptions options) => Buffers[rank].Combine(
        results, handle, TensorView.FromPointer(Output[rank], Tokens, Hidden, Hidden, ElementType.Single, _devices[rank]), options);

    /// <summary>A dispatch and a combine of all ranks, on their streams.</summary>
    public Dispatched[] Enqueue()
    {
        Dispatched[] received = [.. Enumerable.Range(0, Count).Select(rank => Dispatch(rank, On(rank)))];
        for (int rank = 0; rank < Count; rank++) Combine(rank, received[rank], On(rank));
        return received;
    }

    /// <summary>The same with new rows, to the end: all ranks are in step, and right.</summary>
    public void RequireExchange()
    {
        Draw();
        Dispatched[] received = Enqueue();
        Synchronize();
        RequireSums();
        foreach (Dispatched each in received) each.Dispose();
    }

    /// <summary>The same again and again in a graph of each rank, with other rows and routes each time.</summary>
    public void RequireExchangesOfGraphs(int runs)
    {
        // Once before: what a first call takes is not taken while a stream is captured.
        RequireExchange();
        var received = new Dispatched[Count];
        Graph[] graphs = [.. Enumerable.Range(0, Count).Select(rank => Graph.Capture(Streams[rank], () =>
        {
            received[rank] = Dispatch(rank, On(rank));
            Combine(rank, received[rank], On(rank));
        }))];
        for (int run = 0; run < runs; run++)
        {
            Draw();
            for (int rank = 0; rank < Count; rank++) graphs[rank].Launch(Streams[rank]);
            Synchronize();
            RequireSums();
        }
        foreach (Graph graph in graphs) graph.Dispose();
        foreach (Dispatched each in received) each.Dispose();

        // Calls outside of graphs go on with what graphs have counted.
        RequireExchange();
    }

    /// <summary>The device works on, for other ranks.</summary>
    public static void RequireExchangeOfOthers(Gpu gpu)
    {
        using var others = new CallRanks(gpu, 2);
        others.RequireExchange();
    }

    public DeviceOptions On(int rank) => new() { Stream = Streams[rank].Handle };

    /// <summary>A call that waits, each rank on a thread of its own.</summary>
    public T[] InThreads<T>(Func<int, T> call, int? ranks = null)
    {
        Task<T>[] tasks = [.. Enumerable.Range(0, ranks ?? Count).Select(rank => Task.Factory.StartNew(
            () => call(rank), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        return Task.WhenAll(tasks).WaitAsync(TimeSpan.FromSeconds(30)).GetAwaiter().GetResult();
    }

    public void Synchronize()
    {
        foreach (CudaStream stream in Streams) stream.Synchronize();
    }

    /// <summary>Rows were combined as they came: each token's sum is its row, once for each rank that it went to, or for each of its choices.</summary>
    public void RequireSums(RowLayout layout = RowLayout.RankMajor)
    {
        for (int rank = 0; rank < Count; rank++)
        {
            float[] output = Read<float>(rank, Output[rank], Tokens * Hidden);
            for (int token = 0; token < Tokens; token++)
            {
                int[] chosen = [.. ChoicesOnHost[rank].AsSpan(token * TopK, TopK).ToArray().Where(expert => expert >= 0)];
                int rows = layout == RowLayout.ExpertMajor ? chosen.Length : chosen.Select(RankOf).Distinct().Count();
                for (int i = 0; i < Hidden; i++)
                {
                    float value = XOnHost[rank][(token * Hidden) + i], sum = rows == 0 ? 0 : value;
                    for (int more = 1; more < rows; more++) sum += value;
                    Assert.True(sum == output[(token * Hidden) + i], $"rank {rank}, token {token}, element {i}: expected {sum}, got {output[(token * Hidden) + i]}");
                }
            }
        }
    }

    public unsafe void Write<T>(int rank, nint target, ReadOnlySpan<T> values)
        where T : unmanaged
    {
        fixed (T* source = values) _memory[rank].Copy(target, (nint)source, values.Length * sizeof(T));
    }

    public unsafe T[] Read<T>(int rank, nint source, int count)
        where T : unmanaged
    {
        var values = new T[count];
        fixed (T* target = values) _memory[rank].Copy((nint)target, source, count * sizeof(T));
        return values;
    }

    public void Dispose()
    {
        foreach (ExpertBuffer buffer in Buffers) buffer.Dispose();
        foreach (CudaStream stream in Streams)
        {
            stream.Synchronize();
            stream.Dispose();
        }
        foreach (CudaAccess memory in _memory) memory.Dispose();
        foreach (ExpertGroup group in _groups) group.Dispose();
    }

    private int Fill()
    {
        var held = new List<Dispatched>();
        while (true)
        {
            try
            {
                // The ranks have the same room: each takes note of the refusal at once.
                Dispatched[] all = InThreads(rank => Dispatch(rank, On(rank)));
                held.AddRange(all);
            }
            catch (CapacityException)
            {
                Synchronize();
                foreach (Dispatched each in held) each.Dispose();
                return held.Count / Count;
            }
        }
    }

    private ReadOnlyTensorView Choices(int rank) => ReadOnlyTensorView.FromPointer(Indices[rank], Tokens, TopK, TopK, ElementType.Int32, _devices[rank]);

    private int RankOf(int expert) => Enumerable.Range(0, Count).First(rank => expert < (rank + 1) * Experts / Count);

    private int[] Choices()
    {
        int[] experts = [.. Enumerable.Range(0, Experts)];
        _random.Shuffle(experts);
        return [.. experts.Take(TopK).Select(expert => _random.Next(5) == 0 ? -1 : expert)];
    }
}

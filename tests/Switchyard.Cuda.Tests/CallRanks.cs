using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;

namespace Switchyard.Cuda.Tests;

/// <summary>Ranks on one device that one thread drives: none of their calls waits on the host.</summary>
internal sealed class CallRanks : IDisposable
{
    public const int Tokens = 12;
    public const int Hidden = 64;
    public const int TopK = 3;
    public const int Experts = 8;
    private readonly ExpertGroup[] _groups;
    private readonly CudaAccess[] _memory;
    private readonly Random _random = new(Random.Shared.Next());

    public CallRanks(Gpu gpu, int ranks, int? capacity = null, TimeSpan? deadline = null, long budget = 1 << 20)
    {
        _groups = ExpertGroup.CreateLocal(ranks);
        ExpertBufferOptions options = OptionsFor(ranks, capacity) with { MemoryBudget = budget, Deadline = deadline ?? TimeSpan.FromSeconds(20) };
        Buffers = Task.WhenAll(_groups.Select(group => ExpertBuffer.CreateAsync(group, options))).GetAwaiter().GetResult();
        Streams = [.. _groups.Select(_ => CudaStream.Create(gpu.Context))];
        _memory = [.. _groups.Select(_ => new CudaAccess(0, 1 << 20))];
        X = [.. _memory.Select(memory => memory.Allocate(Tokens * Hidden * sizeof(float)))];
        Indices = [.. _memory.Select(memory => memory.Allocate(Tokens * TopK * sizeof(int)))];
        Output = [.. _memory.Select(memory => memory.Allocate(Tokens * Hidden * sizeof(float)))];
        XOnHost = new float[ranks][];
        ChoicesOnHost = new int[ranks][];
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
            _memory[rank].Fill(Output[rank], 0xA5, Tokens * Hidden * sizeof(float));
        }
    }

    public Dispatched Dispatch(int rank, DeviceOptions device, bool isFixed = true) => DispatchWith(rank, new() { FixedShape = isFixed, Device = device });

    public Dispatched DispatchWith(int rank, DispatchOptions options) => Buffers[rank].Dispatch(
        Rows(rank), ReadOnlyTensorView.FromPointer(Indices[rank], Tokens, TopK, TopK, ElementType.Int32, 0), default, options);

    /// <summary>The same rows the same way.</summary>
    public Dispatched Dispatch(int rank, DispatchHandle handle, DeviceOptions device) => Buffers[rank].Dispatch(Rows(rank), handle, device);

    public void Combine(int rank, Dispatched received, DeviceOptions device) => Combine(rank, received.Rows, received.Handle, device);

    public void Combine(int rank, ReadOnlyTensorView results, DispatchHandle handle, DeviceOptions device) => Buffers[rank].Combine(
        results, handle, TensorView.FromPointer(Output[rank], Tokens, Hidden, Hidden, ElementType.Single, 0), new() { Device = device });

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

    private ReadOnlyTensorView Rows(int rank) => ReadOnlyTensorView.FromPointer(X[rank], Tokens, Hidden, Hidden, ElementType.Single, 0);

    private int RankOf(int expert) => Enumerable.Range(0, Count).First(rank => expert < (rank + 1) * Experts / Count);

    private int[] Choices()
    {
        int[] experts = [.. Enumerable.Range(0, Experts)];
        _random.Shuffle(experts);
        return [.. experts.Take(TopK).Select(expert => _random.Next(5) == 0 ? -1 : expert)];
    }
}

using System.Runtime.InteropServices;
using Switchyard.Arena;
using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

/// <summary>Each mistake is an ordinary argument exception that names the value, the limit and the option, and costs nothing.</summary>
public sealed partial class BadInputTests : IDisposable
{
    private static readonly ExpertBufferOptions _good = new()
    {
        Backend = CpuBackend.Instance,
        Experts = 6,
        TopK = 2,
        Hidden = 4,
        MaxTokensPerRank = 3,
        Element = ElementType.Single,
    };

    private readonly ExpertGroup _group = ExpertGroup.CreateLocal(1)[0];
    private readonly ExpertBuffer _buffer;

    public BadInputTests() => _buffer = ExpertBuffer.CreateAsync(_group, _good).GetAwaiter().GetResult();

    public void Dispose()
    {
        _buffer.Dispose();
        _group.Dispose();
    }

    public static TheoryData<ExpertBufferOptions, string[]> BadOptions() => new()
    {
        { _good with { Experts = 0 }, ["Experts", "0", "4096"] },
        { _good with { Experts = 5000 }, ["Experts", "5000", "4096"] },
        { _good with { TopK = 0 }, ["TopK", "0", "6"] },
        { _good with { TopK = 7 }, ["TopK", "7", "6"] },
        { _good with { Hidden = -1 }, ["Hidden", "-1"] },
        { _good with { Hidden = (1 << 20) + 1 }, ["Hidden", "1048577", "1048576"] },
        { _good with { MaxTokensPerRank = 0 }, ["MaxTokensPerRank", "0"] },
        { _good with { MaxTokensPerRank = int.MaxValue }, ["MaxTokensPerRank", "2147483647", "1048576"] },
        { _good with { Element = ElementType.Int32 }, ["Element", "Int32", "BFloat16"] },
        { _good with { Element = ElementType.None }, ["Element", "None"] },
        { _good with { ReceiveCapacity = 0 }, ["ReceiveCapacity", "0"] },
        { _good with { MemoryBudget = 10 }, ["MemoryBudget", "10"] },
        { _good with { ReceiveCapacity = Limits.MaxReceiveRows, Hidden = Limits.MaxHidden }, ["MemoryBudget", "ReceiveCapacity = 1073741823"] },
        { _good with { Deadline = TimeSpan.Zero }, ["Deadline", "00:00:00"] },
        { _good with { Backend = null! }, ["Backend", "CpuBackend"] },
        { _good with { ExpertRanks = new int[5] }, ["ExpertRanks", "5", "6"] },
        { _good with { ExpertRanks = [0, 0, 0, 0, 0, 1] }, ["ExpertRanks[5]", "1", "0 to 0"] },
        { _good with { ExpertRanks = [-1, 0, 0, 0, 0, 0] }, ["ExpertRanks[0]", "-1", "0 to 0"] },
        { _good with { CpuAffinity = [] }, ["CpuAffinity", "empty"] },
        { _good with { CpuAffinity = [8192] }, ["CpuAffinity", "8192", "may use"] },
        { _good with { WorkerThreads = 0 }, ["WorkerThreads", "0", "1 to 256"] },
        { _good with { WorkerThreads = 257 }, ["WorkerThreads", "257", "1 to 256"] },
    };

    [Theory]
    [MemberData(nameof(BadOptions))]
    public async Task Options_are_refused(ExpertBufferOptions options, string[] named)
    {
        ArgumentException error = await Assert.ThrowsAnyAsync<ArgumentException>(() => ExpertBuffer.CreateAsync(_group, options));
        Assert.All(named, each => Assert.Contains(each, error.Message, StringComparison.Ordinal));
        WorksStill();
    }

    [Fact]
    public async Task More_memory_than_there_is_is_refused_by_name()
    {
        TransportException error = await Assert.ThrowsAsync<TransportException>(
            () => ExpertBuffer.CreateAsync(_group, _good with { MemoryBudget = 1L << 46 }));
        Assert.Contains("MemoryBudget", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(65)]
    public void Group_size_is_limited(int size) =>
        Assert.Contains("64", Assert.Throws<ArgumentOutOfRangeException>(() => ExpertGroup.CreateLocal(size)).Message, StringComparison.Ordinal);

    [Fact]
    public void Wrong_shapes_and_types_of_a_dispatch_are_refused()
    {
        Refused(() => _buffer.Dispatch(new float[5], new int[2]), "x", "5", "Hidden = 4");
        Refused(() => _buffer.Dispatch(new float[16], new int[8]), "x", "4 tokens", "MaxTokensPerRank is 3");
        Refused(() => _buffer.Dispatch(new BFloat16[4], new int[2]), "x", "BFloat16", "Single");
        Refused(() => _buffer.Dispatch(default(ReadOnlyTensorView), new int[2]), "x", "nothing", "Single");
        Refused(() => _buffer.Dispatch(new float[4], new int[3]), "topkIndices", "3 elements", "TopK = 2");
        Refused(() => _buffer.Dispatch(new float[4], new float[2]), "topkIndices", "Single", "Int32 or Int64");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, new float[3]), "topkWeights", "3 elements", "1 x 2");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, new int[2]), "topkWeights", "Int32", "Single");
        WorksStill();
    }

    [Fact]
    public unsafe void Transposed_choices_are_refused()
    {
        int[] choices = [0, 1, 2, 3, 4, 5];
        fixed (int* address = choices)
        {
            nint memory = (nint)address;
            Refused(() => _buffer.Dispatch(new float[12], ReadOnlyTensorView.FromPointer(memory, 2, 3, 3, ElementType.Int32)), "topkIndices", "rows of 3", "2");
        }
        WorksStill();
    }

    [Fact]
    public void Results_of_another_plan_are_refused()
    {
        using Dispatched one = _buffer.Dispatch(new float[4], new[] { 0, 1 });
        using Dispatched other = _buffer.Dispatch(new float[4], new[] { 2, 3 });
        TensorErrors(one, other);
        WorksStill();
    }

    private void TensorErrors(Dispatched one, Dispatched other) =>
        Refused(() => _buffer.Combine(one.Rows, other.Handle, new float[4]), "results", "the handle's plan");

    /// <summary>Every peer can write a rank's arena: where the rank's own rows go must not depend on what stands there of itself.</summary>
    [Fact]
    public unsafe void What_a_rank_says_itself_is_not_read_back()
    {
        long self = _buffer.Layout.EntryOf(0, 1), bytes = ArenaLayout.RingDepth * (long)_buffer.Layout.EntryBytes;
        new Span<byte>(_buffer.ArenaBase + Math.Min(self, _buffer.Layout.EntryOf(0, 0)), (int)bytes).Fill(0xFF);
        WorksStill();
        WorksStill();
    }

    [Fact]
    public void Wrong_choices_are_refused()
    {
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 6 }), "Token 0", "expert 6", "0 to 5", "Experts");
        Refused(() => _buffer.Dispatch(new float[4], new[] { -2, 0 }), "expert -2");
        Refused(() => _buffer.Dispatch(new float[8], new[] { 0, 1, 3, 3 }), "Token 1", "expert 3 twice");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1L << 32 }), "expert 4294967296");
        Refused(() => _buffer.Dispatch(new float[4], new[] { long.MinValue, 0 }), "expert -9223372036854775808");
        WorksStill();
    }

    [Fact]
    public void Wrong_options_of_a_call_are_refused()
    {
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { Layout = (RowLayout)7 }), "Layout", "7");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { Layout = RowLayout.ExpertMajor, ExpertAlignment = 0 }), "ExpertAlignment", "0", "4096");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { Layout = RowLayout.ExpertMajor, ExpertAlignment = 4097 }), "ExpertAlignment", "4097", "4096");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { ExpertAlignment = 8 }), "ExpertAlignment", "8", "rank-major");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { ZeroPadding = true }), "ZeroPadding", "rank-major");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { PreReduce = true }), "PreReduce", "rank-major");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { ScaleLayout = (ScaleLayout)2 }), "ScaleLayout", "2", "ColumnMajor");
        Refused(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }, default, new() { Quantize = (Float8Scaling)4 }), "DispatchOptions.Quantize", "Packed");
        Assert.Throws<ArgumentOutOfRangeException>(() => _buffer.Deadline = TimeSpan.FromSeconds(-1));
        Assert.Throws<ArgumentOutOfRangeException>("rank", () => _buffer.WaitedFor(-1));
        Assert.Throws<ArgumentOutOfRangeException>("rank", () => _buffer.WaitedFor(1));
        WorksStill();
    }

    [Fact]
    public void Wrong_arguments_of_a_combine_are_refused()
    {
        using Dispatched d = _buffer.Dispatch(new float[8], new[] { 0, 1, 2, -1 }, default, new() { Layout = RowLayout.ExpertMajor });
        DispatchHandle handle = d.Handle;
        float[] output = new float[8], results = new float[12];
        Refused(() => _buffer.Combine(new float[8], handle, output), "results", "has 8 elements", "3 rows", "4 elements");
        Refused(() => _buffer.Combine(results, handle, new float[12]), "output", "2 rows");
        Refused(() => _buffer.Combine(new BFloat16[12], handle, output), "results", "BFloat16", "Single");
        Refused(() => _buffer.Combine(results, default, output), "handle", "Dispatched.Handle");
        Refused(() => _buffer.Combine(results, handle, output, new() { RowWeights = new float[2], ReducedWeights = new float[4] }), "RowWeights", "2 elements", "3 x 1");
        Refused(() => _buffer.Combine(results, handle, output, new() { RowWeights = new float[3], ReducedWeights = new float[3] }), "ReducedWeights", "3 elements", "2 x 2");
        Refused(() => _buffer.Combine(results, handle, output, new() { RowWeights = new float[3] }), "together");
        Refused(() => _buffer.Dispatch(new float[4], handle), "x", "2 rows");
        WorksStill();
    }

    [Fact]
    public unsafe void Results_in_the_wrong_memory_are_refused()
    {
        Dispatched d = _buffer.Dispatch(new float[12], new[] { 0, 1, 2, 3, 4, 5 });
        using DispatchHandle handle = d.Handle.Keep();
        nint rows = (nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(d.Rows.AsSpan<float>()));
        float[] output = new float[12];
        Refused(() => _buffer.Combine(ReadOnlyTensorView.FromPointer(rows + 16, 3, 4, 4, ElementType.Single), handle, output), "results", "neither the Rows nor the ResultRows");
        Refused(() => _buffer.Combine(new float[12], handle, TensorView.FromPointer(rows, 3, 4, 4, ElementType.Single)), "output", "arena of rank 0");
        d.Dispose();
        Refused(() => _buffer.Combine(ReadOnlyTensorView.FromPointer(rows, 3, 4, 4, ElementType.Single), handle, output), "results", "alive");
        WorksStill();
    }

    [Fact]
    public void A_handle_that_is_kept_outlives_its_results_until_it_is_disposed()
    {
        Dispatched d = _buffer.Dispatch(new float[4], new[] { 0, 1 });
        DispatchHandle handle = d.Handle.Keep(), copy = handle.Keep();
        d.Dispose();
        Dispatched again = _buffer.Dispatch(new float[4], handle);
        handle.Dispose();
        copy.Dispose();

        // The second result holds it.
        _buffer.Combine(again.Rows, handle, new float[4]);
        again.Dispose();
        Assert.Throws<ObjectDisposedException>(() => handle.Tokens);

        // The plan serves another dispatch now, which the old handle has no part in.
        using Dispatched other = _buffer.Dispatch(new float[8], new[] { 0, 1, 2, 3 });
        handle.Dispose();
        Assert.Throws<ObjectDisposedException>(() => copy.Tokens);
        Assert.Equal(2, other.Handle.Tokens);
    }

    [Fact]
    public void Nothing_is_used_after_it_was_disposed()
    {
        Dispatched d = _buffer.Dispatch(new float[4], new[] { 0, 1 });
        DispatchHandle handle = d.Handle;
        d.Dispose();
        d.Dispose();
        Assert.Throws<ObjectDisposedException>(() => d.RowCount);
        Assert.Throws<ObjectDisposedException>(() => d.Handle);
        string why = Assert.Throws<ObjectDisposedException>(() => _buffer.Combine(new float[4], handle, new float[4])).Message;
        Assert.Contains("Keep", why, StringComparison.Ordinal);
        Assert.Throws<ObjectDisposedException>(() => handle.Keep());
        handle.Dispose();
        _buffer.Dispose();
        _buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => _buffer.Dispatch(new float[4], new[] { 0, 1 }));
    }

    [Fact]
    public void Views_of_the_wrong_type_or_shape_are_refused()
    {
        using Dispatched d = _buffer.Dispatch(new float[4], new[] { 0, 1 });
        Assert.Throws<InvalidOperationException>(() => _ = d.Rows.AsSpan<BFloat16>());
        Assert.Throws<InvalidOperationException>(() => _ = d.ExpertOffsets);
        Assert.Throws<ArgumentOutOfRangeException>(() => _ = d.Rows.Row<float>(1));
        Assert.Throws<ArgumentException>(() => ReadOnlyTensorView.FromPointer(0, 1, 4, 4, ElementType.Single));
        Assert.Throws<ArgumentOutOfRangeException>(() => ReadOnlyTensorView.FromPointer(64, 1, 4, 3, ElementType.Single));
    }

    [Fact]
    public async Task One_thread_for_two_ranks_is_an_error_that_says_so()
    {
        ExpertGroup[] ranks = ExpertGroup.CreateLocal(2);
        ExpertBuffer[] buffers = await Task.WhenAll(ranks.Select(rank => ExpertBuffer.CreateAsync(rank, _good with { Deadline = TimeSpan.FromMilliseconds(200) })));
        var thread = new Thread(() =>
        {
            PeerTimeoutException error = Assert.Throws<PeerTimeoutException>(() => buffers[0].Dispatch(Array.Empty<float>(), Array.Empty<int>()));
            Assert.Contains("a thread of its own", error.Message, StringComparison.Ordinal);
            Assert.Throws<PeerTimeoutException>(() => buffers[1].Dispatch(Array.Empty<float>(), Array.Empty<int>()));
        });
        thread.Start();
        thread.Join();
        foreach (ExpertBuffer buffer in buffers) buffer.Dispose();
        foreach (ExpertGroup rank in ranks) rank.Dispose();
    }

    private static void Refused(Action call, params string[] named)
    {
        ArgumentException error = Assert.ThrowsAny<ArgumentException>(call);
        Assert.All(named, each => Assert.Contains(each, error.Message, StringComparison.Ordinal));
        Assert.False(string.IsNullOrEmpty(error.ParamName));
    }

    private void WorksStill()
    {
        float[] x = [1, 2, 3, 4], output = new float[4];
        using Dispatched d = _buffer.Dispatch(x, new[] { 5, 0 });
        _buffer.Combine(d.Rows, d.Handle, output);
        Assert.Equal(x, output);
    }
}

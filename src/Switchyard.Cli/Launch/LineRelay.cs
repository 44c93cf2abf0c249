using System.Buffers;

namespace Switchyard.Cli.Launch;

/// <summary>
/// Copies one stream of one rank to the launcher's, line by line behind a prefix. Bytes, not text: what a rank writes arrives unchanged.
/// </summary>
internal sealed class LineRelay
{
    // A longer line is cut, so that a rank that never ends one cannot use up the launcher's memory.
    private const int MaxLineBytes = 1 << 20;
    private const int TailLines = 10;

    private readonly Stream _source;
    private readonly Output _output;
    private readonly bool _toError;
    private readonly byte[] _prefix;
    private readonly ArrayBufferWriter<byte> _partial = new();
    private readonly ArrayBufferWriter<byte> _ready = new();
    private readonly Queue<byte[]> _tail = new();
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private LineRelay(Stream source, Output output, bool toError, byte[] prefix)
    {
        _source = source;
        _output = output;
        _toError = toError;
        _prefix = prefix;
    }

    /// <summary>Completes when every process that could write has closed the stream and all of it has been written.</summary>
    public Task Drained => _drained.Task;

    /// <summary>The last lines, prefix included. To be read once drained.</summary>
    public IEnumerable<byte[]> Tail => _tail;

    /// <summary>Starts a thread for it: with up to 128 blocking reads, the thread pool would be slow to grow.</summary>
    public static LineRelay Start(Stream source, Output output, int rank, bool toError)
    {
        var relay = new LineRelay(source, output, toError, RankPrefix.For(rank, toError));
        new Thread(relay.Pump, maxStackSize: 256 * 1024) { IsBackground = true, Name = $"rank {rank} output" }.Start();
        return relay;
    }

    private void Pump()
    {
        byte[] chunk = new byte[64 * 1024];
        while (_source.Read(chunk) is > 0 and int read)
        {
            Take(chunk.AsSpan(0, read));
            Flush();
        }
        if (_partial.WrittenCount > 0)
            EndLine("\n"u8);
        Flush();
        _drained.SetResult();
    }

    private void Take(ReadOnlySpan<byte> bytes)
    {
        while (bytes.IndexOf((byte)'\n') is >= 0 and int end)
        {
            EndLine(bytes[..(end + 1)]);
            bytes = bytes[(end + 1)..];
        }
        _partial.Write(bytes);
        if (_partial.WrittenCount > MaxLineBytes)
            EndLine("\n"u8);
    }

    private void EndLine(ReadOnlySpan<byte> rest)
    {
        int start = _ready.WrittenCount;
        _ready.Write(_prefix);
        _ready.Write(_partial.WrittenSpan);
        _ready.Write(rest);
        _partial.ResetWrittenCount();
        if (_toError)
            Remember(_ready.WrittenSpan[start..]);
    }

    private void Remember(ReadOnlySpan<byte> line)
    {
        if (_tail.Count == TailLines)
            _tail.Dequeue();
        _tail.Enqueue(line.ToArray());
    }

    private void Flush()
    {
        if (_ready.WrittenCount > 0)
            _output.Write(_toError, _ready.WrittenSpan);
        _ready.ResetWrittenCount();
    }
}

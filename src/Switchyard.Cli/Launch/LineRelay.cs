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

    /// <summary>Of a .NET program's last words the first lines say what happened, however deep the stack.</summary>
    private const int ReportLines = 40;

    private readonly Stream _source;
    private readonly Output _output;
    private readonly bool _toError;
    private readonly byte[] _prefix;
    private readonly ArrayBufferWriter<byte> _partial = new();
    private readonly ArrayBufferWriter<byte> _ready = new();
    private readonly Queue<byte[]> _tail = new();
    private bool _isReporting;
    private long _readBytes;
    private volatile bool _isWriting;
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

    /// <summary>Whether it waits for the launcher's reader, who may be slow.</summary>
    public bool IsWriting => _isWriting;

    public long ReadBytes => Volatile.Read(ref _readBytes);

    /// <summary>The last lines so far, prefix included; from the start of the report if the program made one of its failure.</summary>
    public byte[][] Tail
    {
        get
        {
            lock (_tail)
                return [.. _tail];
        }
    }

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
            Volatile.Write(ref _readBytes, _readBytes + read);
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
        ReadOnlySpan<byte> text = line[_prefix.Length..];
        lock (_tail)
        {
            if (!_isReporting && (text.StartsWith("Unhandled exception"u8) || text.StartsWith("Process terminated."u8)))
            {
                _tail.Clear();
                _isReporting = true;
            }
            if (!_isReporting && _tail.Count == TailLines)
                _tail.Dequeue();
            if (_tail.Count < (_isReporting ? ReportLines : TailLines))
                _tail.Enqueue(line.ToArray());
        }
    }

    private void Flush()
    {
        if (_ready.WrittenCount == 0)
            return;
        _isWriting = true;
        _output.Write(_toError, _ready.WrittenSpan);
        _isWriting = false;
        _ready.ResetWrittenCount();
    }
}

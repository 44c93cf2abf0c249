using System.Collections.Concurrent;
using System.Text;

namespace Switchyard.Cli.Launch;

/// <summary>
/// The launcher's two output streams. Every write is whole: one lock for both, as they often share a terminal. What the launcher itself says is
/// written by a thread of its own: a reader who has stopped to read holds up the ranks, but not the launcher's care for them.
/// </summary>
internal sealed class Output : IDisposable
{
    private readonly Stream _output = Console.OpenStandardOutput();
    private readonly Stream _error = Console.OpenStandardError();
    private readonly Lock _lock = new();
    private readonly BlockingCollection<byte[]> _said = [];
    private readonly Thread _speaker;

    public Output()
    {
        _speaker = new Thread(Speak) { IsBackground = true, Name = "launcher output" };
        _speaker.Start();
    }

    /// <summary>Writes what a rank wrote; waits for the reader. Where nobody reads any more it is dropped.</summary>
    public void Write(bool toError, ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
            (toError ? _error : _output).Write(bytes);
    }

    /// <summary>A line of the launcher's own, on the error stream. Does not wait.</summary>
    public void Say(string message) => Repeat(Encoding.UTF8.GetBytes($"switchyard: {message}\n"));

    /// <summary>A rank's line once more, among those that are said.</summary>
    public void Repeat(byte[] line) => _said.Add(line);

    /// <summary>Waits until all that was said is written.</summary>
    public void Dispose()
    {
        _said.CompleteAdding();
        _speaker.Join();
        _said.Dispose();
        _output.Dispose();
        _error.Dispose();
    }

    private void Speak()
    {
        foreach (byte[] line in _said.GetConsumingEnumerable())
            Write(toError: true, line);
    }
}

using System.Text;

namespace Switchyard.Cli.Launch;

/// <summary>The launcher's two output streams. Every write is whole: one lock for both, as they often share a terminal.</summary>
internal sealed class Output : IDisposable
{
    private readonly Stream _output = Console.OpenStandardOutput();
    private readonly Stream _error = Console.OpenStandardError();
    private readonly Lock _lock = new();

    public void Write(bool toError, ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
            (toError ? _error : _output).Write(bytes);
    }

    /// <summary>A line of the launcher's own, on the error stream.</summary>
    public void Say(string message) => Write(toError: true, Encoding.UTF8.GetBytes($"switchyard: {message}\n"));

    public void Dispose()
    {
        _output.Dispose();
        _error.Dispose();
    }
}

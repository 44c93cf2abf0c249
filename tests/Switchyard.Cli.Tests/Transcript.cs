namespace Switchyard.Cli.Tests;

/// <summary>A stream's lines as they come, to wait on.</summary>
internal sealed class Transcript
{
    private readonly List<string> _lines = [];
    private readonly List<(string Start, TaskCompletionSource<string> Found)> _awaited = [];

    public Transcript(StreamReader reader) => Ended = ReadAsync(reader);

    public Task Ended { get; }

    public IReadOnlyList<string> Lines
    {
        get
        {
            lock (_lines)
                return [.. _lines];
        }
    }

    public Task<string> LineAsync(string start)
    {
        var found = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_lines)
        {
            _awaited.Add((start, found));
            _lines.ForEach(Announce);
        }
        return found.Task;
    }

    private async Task ReadAsync(StreamReader reader)
    {
        while (await reader.ReadLineAsync() is { } line)
        {
            lock (_lines)
            {
                _lines.Add(line);
                Announce(line);
            }
        }
    }

    private void Announce(string line)
    {
        foreach ((string start, TaskCompletionSource<string> found) in _awaited)
        {
            if (line.StartsWith(start, StringComparison.Ordinal))
                found.TrySetResult(line[start.Length..]);
        }
    }
}

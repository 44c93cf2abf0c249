using System.Globalization;

namespace Switchyard.Rendezvous;

/// <summary>
/// What a rank leaves for its launcher when it fails because of another: the rank it blames, then its error's message. A rank that fails on its
/// own account may take its peers down before its own process has ended, so the order in which processes end does not tell the cause.
/// </summary>
internal sealed class FaultNote(string? folder, string job, int rank)
{
    private int _isWritten;

    /// <summary>Writes the note of the first fault, whole or not at all. A launcher without it knows less; nothing else depends on it.</summary>
    public void Write(int culprit, string message)
    {
        if (folder is null || culprit == rank || Interlocked.Exchange(ref _isWritten, 1) != 0) return;
        string path = Path.Combine(folder, $"{job}.fault.{rank}");
        try
        {
            File.WriteAllText(path + ".part", string.Create(CultureInfo.InvariantCulture, $"{culprit}\n{message.ReplaceLineEndings(" ")}\n"));
            File.Move(path + ".part", path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The folder is gone or full: the error itself is on its way to the caller.
        }
    }
}

using System.Globalization;
using System.Text;

namespace Switchyard.Cli.Launch;

/// <summary>
/// The notes in a job's folder: a rank whose library blames another rank leaves '{job}.fault.{rank}' there, with the culprit's number in
/// one line and the error's message in the next. What is not such a note is ignored.
/// </summary>
internal sealed class FaultNotes : IDisposable
{
    private const int MaxBytes = 16 * 1024;

    private readonly LaunchOptions _options;
    private readonly string _directory;

    /// <summary>A folder of the user's may still hold the notes of an earlier job of this name.</summary>
    public FaultNotes(LaunchOptions options, JobDirectory directory)
    {
        _options = options;
        _directory = directory.MeetingPath;
        Clear();
    }

    public FaultNote? By(int rank) => Read(PathOf(rank)) is { } text ? Parse(text, rank) : null;

    public void Dispose() => Clear();

    private string PathOf(int rank) => Path.Combine(_directory, string.Create(CultureInfo.InvariantCulture, $"{_options.Job}.fault.{rank}"));

    private void Clear()
    {
        for (int rank = 0; rank < _options.Ranks; rank++)
            Delete(PathOf(rank));
    }

    private static void Delete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // It is not a note.
        }
    }

    private static string? Read(string path)
    {
        try
        {
            // A pipe's length is 0: opening one would wait for a writer.
            if (new FileInfo(path) is not { Exists: true, LinkTarget: null, Length: > 0 })
                return null;
            using FileStream file = File.OpenRead(path);
            byte[] bytes = new byte[MaxBytes + 1];
            int read = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return read <= MaxBytes ? Encoding.UTF8.GetString(bytes, 0, read) : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private FaultNote? Parse(string text, int reporter)
    {
        if (text.Split('\n') is not [var number, var message, ..] || !int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int culprit))
            return null;
        return culprit < _options.Ranks && culprit != reporter ? new FaultNote(culprit, Printable(message)) : null;
    }

    private static string Printable(string line) => string.Concat(line.Select(c => char.IsControl(c) ? ' ' : c)).Trim();
}

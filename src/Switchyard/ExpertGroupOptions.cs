using System.Globalization;

namespace Switchyard;

/// <summary>Who a process is in its group, and where the group meets. Validated when joining.</summary>
public sealed record ExpertGroupOptions
{
    /// <summary>This process's rank, 0 ≤ rank &lt; <see cref="Size"/>. Variable: <c>SWITCHYARD_RANK</c>.</summary>
    public required int Rank { get; init; }

    /// <summary>The ranks in the group, at most <see cref="Limits.MaxRanks"/>. Variable: <c>SWITCHYARD_WORLD_SIZE</c>.</summary>
    public required int Size { get; init; }

    /// <summary>
    /// The job's name: ranks of one user that give the same name meet. Letters, digits, '.', '-' and '_'; at most 64.
    /// Variable: <c>SWITCHYARD_JOB</c>, default <c>default</c>.
    /// </summary>
    public string Job { get; init; } = "default";

    /// <summary>
    /// The folder in which the ranks of one machine meet: it holds the job's socket and, without <see cref="TokenFile"/>, its token.
    /// Made with mode 0700; one that others can enter or that belongs to another user is refused.
    /// Variable: <c>SWITCHYARD_DIRECTORY</c>, default <c>$XDG_RUNTIME_DIR/switchyard</c>, else <c>/tmp/switchyard-UID</c>.
    /// </summary>
    public string? Directory { get; init; }

    /// <summary>
    /// A file of mode 0600 with the job's 256-bit token in hexadecimal. Variable: <c>SWITCHYARD_TOKEN_FILE</c>.
    /// Without it rank 0 makes one in <see cref="Directory"/>.
    /// </summary>
    public string? TokenFile { get; init; }

    /// <summary>
    /// A folder in which a rank that fails because of another leaves a note that names it, for the launcher; none by default.
    /// Variable: <c>SWITCHYARD_FAULT_NOTES</c>.
    /// </summary>
    public string? FaultNotes { get; init; }

    /// <summary>How long to wait for the other ranks. Variable: <c>SWITCHYARD_JOIN_TIMEOUT</c> in whole seconds, default 60.</summary>
    public TimeSpan JoinTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Reads the variables named on each property, as <c>switchyard launch</c> sets them.</summary>
    /// <exception cref="InvalidOperationException">A required variable is missing or a value is malformed; the message names it.</exception>
    public static ExpertGroupOptions FromEnvironment()
    {
        var options = new ExpertGroupOptions
        {
            Rank = RequiredNumber("SWITCHYARD_RANK"),
            Size = RequiredNumber("SWITCHYARD_WORLD_SIZE"),
            Directory = Text("SWITCHYARD_DIRECTORY"),
            TokenFile = Text("SWITCHYARD_TOKEN_FILE"),
            FaultNotes = Text("SWITCHYARD_FAULT_NOTES"),
        };
        if (Text("SWITCHYARD_JOB") is { } job) options = options with { Job = job };
        if (Text("SWITCHYARD_JOIN_TIMEOUT") is { } seconds)
            options = options with { JoinTimeout = TimeSpan.FromSeconds(Number("SWITCHYARD_JOIN_TIMEOUT", seconds)) };
        return options;
    }

    internal void Validate()
    {
        if (Size is < 1 or > Limits.MaxRanks)
            throw new ArgumentOutOfRangeException(nameof(Size), Size, $"Size (SWITCHYARD_WORLD_SIZE) must be 1 to {Limits.MaxRanks} ranks.");
        if (Rank < 0 || Rank >= Size)
            throw new ArgumentOutOfRangeException(nameof(Rank), Rank, $"Rank (SWITCHYARD_RANK) must be 0 to {Size - 1} in a group of Size {Size}.");
        if (!IsJobName(Job))
            throw new ArgumentException($"Job '{Job}' (SWITCHYARD_JOB) must be 1 to 64 letters, digits, '.', '-' or '_'.", nameof(Job));
        if (JoinTimeout <= TimeSpan.Zero || JoinTimeout > TimeSpan.FromDays(1))
            throw new ArgumentOutOfRangeException(nameof(JoinTimeout), JoinTimeout, "JoinTimeout must be positive and at most a day.");
    }

    internal static bool IsJobName(string name) =>
        name.Length is >= 1 and <= 64 && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_');

    private static string? Text(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    private static int RequiredNumber(string name) => Number(name, Text(name)
        ?? throw new InvalidOperationException($"{name} is not set. Start the ranks with 'switchyard launch', or set it for each process."));

    private static int Number(string name, string value) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? number
            : throw new InvalidOperationException($"{name} is '{value}', not a whole number.");
}

namespace Switchyard.Cli;

/// <summary>A command that cannot start as asked. The message is the one line that the user sees.</summary>
internal sealed class UsageException(string message) : Exception(message);

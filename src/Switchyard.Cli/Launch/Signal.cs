using System.Runtime.InteropServices;
using Switchyard.Cli.Interop;

namespace Switchyard.Cli.Launch;

/// <summary>A signal by its number on Linux x64.</summary>
internal readonly record struct Signal(int Number)
{
    private static readonly string[] _names =
    [
        "", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2",
        "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
        "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
    ];

    public static Signal Hangup => new(1);
    public static Signal Interrupt => new(2);
    public static Signal Quit => new(3);
    public static Signal Kill => new(9);
    public static Signal Terminate => new(15);

    public static Signal From(PosixSignal signal) => signal switch
    {
        PosixSignal.SIGHUP => Hangup,
        PosixSignal.SIGINT => Interrupt,
        PosixSignal.SIGQUIT => Quit,
        _ => Terminate,
    };

    /// <summary>The signal behind an exit code of 128 + signal, as .NET and shells report it; null for other codes.</summary>
    public static Signal? FromExitCode(int code) => code > 128 && code - 128 < _names.Length ? new Signal(code - 128) : null;

    /// <summary>Sends it to a process group; to the process alone while that has not become a group's leader yet.</summary>
    public void SendToGroup(int leader)
    {
        if (Libc.kill(-leader, Number) != 0)
            _ = Libc.kill(leader, Number);
    }

    /// <summary>Sends it to what is left of a process group whose leader has ended.</summary>
    public void SendToLeftovers(int leader) => _ = Libc.kill(-leader, Number);

    public override string ToString() => _names[Number];
}

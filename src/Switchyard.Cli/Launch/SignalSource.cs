using System.Globalization;
using System.Runtime.InteropServices;

namespace Switchyard.Cli.Launch;

/// <summary>The signals that ask the launcher to end. They are handed on instead of ending it.</summary>
internal sealed class SignalSource : IDisposable
{
    private static readonly PosixSignal[] _passed = [PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT];

    private readonly List<PosixSignalRegistration> _registrations = [];

    public SignalSource(Action<Signal> received)
    {
        // Under nohup a hangup stays ignored.
        foreach (PosixSignal signal in _passed.Where(signal => signal != PosixSignal.SIGHUP || !IsIgnored(Signal.Hangup)))
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                received(Signal.From(context.Signal));
            }));
    }

    public void Dispose() => _registrations.ForEach(registration => registration.Dispose());

    private static bool IsIgnored(Signal signal)
    {
        const string Field = "SigIgn:";
        string line = File.ReadLines("/proc/self/status").First(line => line.StartsWith(Field, StringComparison.Ordinal));
        ulong mask = ulong.Parse(line.AsSpan(Field.Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return (mask >> (signal.Number - 1) & 1) != 0;
    }
}

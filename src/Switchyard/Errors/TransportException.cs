namespace Switchyard;

/// <summary>The operating system refused something a transport needs: memory, a descriptor, a socket.</summary>
/// <param name="call">The system call that failed.</param>
/// <param name="code">Its error number.</param>
/// <param name="message">What it was for, and what helps.</param>
public sealed class TransportException(string call, int code, string message)
    : SwitchyardException($"{message} ({call}: {System.Runtime.InteropServices.Marshal.GetPInvokeErrorMessage(code)}, errno {code})", Recovery.Rebuild)
{
    /// <summary>The system call that failed.</summary>
    public string Call { get; } = call;

    /// <summary>Its error number.</summary>
    public int Code { get; } = code;
}

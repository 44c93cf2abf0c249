using System.Diagnostics;
using System.Globalization;

namespace Switchyard.Protocol;

/// <summary>The steps after which a rank of the test build can be made to die. Those of one peer are passed once for each.</summary>
internal enum FaultPoint
{
    JoinHello,
    JoinProof,
    JoinReady,
    ShareArena,
    MapArenas,
    BeginCall,
    AnnounceToPeer,
    Agree,
    PushToken,
    SignalRowsToPeer,
    AwaitRows,
    CopyResult,
    PullToken,
    SignalDoneToPeer,
    LostToPeer,
    SettledToPeer,
    VoteToPeer,
    CommitToPeer,
    Commit,
}

/// <summary>
/// Ends the process, as by SIGKILL, when it has passed a point so many times: <c>SWITCHYARD_FAULT_POINT=PushToken:137</c>. Only in the
/// configuration <c>FaultPoints</c>: elsewhere no call of it is compiled.
/// </summary>
internal static class FaultPoints
{
    private static readonly (FaultPoint Point, int Count)? _fatal = Read();
    private static int _passed;

    [Conditional("FAULT_POINTS")]
    public static void Pass(FaultPoint point)
    {
        if (_fatal is not { } fatal || fatal.Point != point || Interlocked.Increment(ref _passed) != fatal.Count) return;
        Console.WriteLine($"died {Stopwatch.GetTimestamp()} {point}");
        Console.Out.Flush();
        Process.GetCurrentProcess().Kill();
        Thread.Sleep(Timeout.Infinite);
    }

    private static (FaultPoint Point, int Count)? Read()
    {
        string[]? words = Environment.GetEnvironmentVariable("SWITCHYARD_FAULT_POINT")?.Split(':');
        return words is null ? null : (Enum.Parse<FaultPoint>(words[0]), int.Parse(words[1], CultureInfo.InvariantCulture));
    }
}

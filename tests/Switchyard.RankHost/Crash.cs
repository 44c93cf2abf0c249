using System.Runtime.InteropServices;
using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>Rank 1 ends as programs do that fail, while the others wait for it.</summary>
internal static class Crash
{
    public const string ByException = "crash-exception";
    public const string ByFailFast = "crash-fail-fast";
    public const string ByMemory = "crash-memory";

    private const string Words = "the experts are out";

    public static async Task RunAsync(RankContext rank, string how)
    {
        await rank.Group.BarrierAsync();
        if (rank.Rank == 1) new Thread(() => End(how)).Start();
        await Task.Delay(rank.Rank == 1 ? Timeout.Infinite : 0);
        await rank.Group.BarrierAsync();
    }

    private static void End(string how)
    {
        if (how == ByFailFast) Environment.FailFast(Words);
        if (how == ByMemory) TakeAllMemory();
        Deeper(50);
    }

    private static unsafe void TakeAllMemory()
    {
        const int Bytes = 16 << 20;
        while (true) NativeMemory.Fill(NativeMemory.Alloc(Bytes), Bytes, 1);
    }

    /// <summary>A stack that is longer than what is shown of a rank's last lines.</summary>
    private static int Deeper(int levels) => levels == 0 ? throw new InvalidOperationException(Words) : Deeper(levels - 1) + 1;
}

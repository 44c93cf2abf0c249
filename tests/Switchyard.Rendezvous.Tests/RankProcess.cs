using System.Diagnostics;
using System.Globalization;

namespace Switchyard.Rendezvous.Tests;

/// <summary>A rank in a process of its own: it joins, then makes collective calls until one fails, and says what it saw.</summary>
internal sealed class RankProcess : IDisposable
{
    private readonly Process _process;

    private RankProcess(Process process) => _process = process;

    public int Id => _process.Id;

    public static RankProcess Start(TestJob job, int rank, int size)
    {
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "Switchyard.Rendezvous.Tests")) { RedirectStandardOutput = true };
        foreach (string argument in new[] { "rank", job.Directory, $"{rank}", $"{size}" }) start.ArgumentList.Add(argument);
        start.Environment["DOTNET_EnableDiagnostics"] = "0"; // a killed process would leave its diagnostics socket behind
        start.Environment["DOTNET_TieredPGO"] = "0";
        return new RankProcess(Process.Start(start)!);
    }

    /// <summary>The rank's side. Leaves without a goodbye when a call fails, as a program with an unhandled exception does.</summary>
    public static async Task<int> RunAsync(string[] args)
    {
        var options = new ExpertGroupOptions
        {
            Directory = args[0],
            Job = "job",
            Rank = int.Parse(args[1], CultureInfo.InvariantCulture),
            Size = int.Parse(args[2], CultureInfo.InvariantCulture),
            JoinTimeout = TimeSpan.FromSeconds(15),
        };
        long began = Stopwatch.GetTimestamp();
        ExpertGroup group = await ExpertGroup.JoinAsync(options);
        Say($"joined {Stopwatch.GetElapsedTime(began).TotalMilliseconds:0.0}");
        var watcher = new Watcher();
        group.Channel.AddWatcher(watcher);
        try
        {
            while (true)
            {
                await group.BarrierAsync();
                await Task.Delay(1);
            }
        }
        catch (PeerLostException e)
        {
            Say($"lost {e.Peer.Rank} {e.Peer.ProcessId} {Stopwatch.GetTimestamp()} {watcher.First} {e.Cause}");
            Environment.Exit(3);
        }
        return 0;
    }

    public string ReadLine() => _process.StandardOutput.ReadLine() ?? "";

    public void Kill() => _process.Kill();

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private sealed class Watcher : IPeerWatcher
    {
        public long First { get; private set; }

        public void OnPeerGone(PeerInfo peer, PeerState state, string cause)
        {
            if (First == 0) First = Stopwatch.GetTimestamp();
        }
    }

    private static void Say(string line)
    {
        Console.WriteLine(line);
        Console.Out.Flush();
    }
}

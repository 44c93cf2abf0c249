using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Switchyard.Rendezvous.Tests;

/// <summary>A rank in a process of its own: it joins, then makes collective calls until one fails, and says what it saw.</summary>
internal sealed class RankProcess : IDisposable
{
    private const int ContinueSignal = 18;
    private const int StopSignal = 19;
    private readonly Process _process;

    private RankProcess(Process process) => _process = process;

    public int Id => _process.Id;

    /// <param name="job">Its job.</param>
    /// <param name="rank">Its rank.</param>
    /// <param name="size">The ranks.</param>
    /// <param name="wrapper">A command that runs the command behind it; killed, it takes that along.</param>
    public static RankProcess Start(TestJob job, int rank, int size, params string[] wrapper) =>
        StartBehind(wrapper, "rank", job.Directory, $"{rank}", $"{size}");

    /// <summary>A rank that joins at an address.</summary>
    /// <param name="job">The job.</param>
    /// <param name="rank">The rank.</param>
    /// <param name="size">The group's size.</param>
    /// <param name="conduct">What it does when it has joined: "busy" as above; "idle" only watches; "leave" leaves and ends at once.</param>
    /// <param name="machine">The number of the machine that it pretends to be on; none for the one it is on.</param>
    /// <param name="networkNamespace">Where it runs; null for the test's own.</param>
    public static RankProcess Start(
        NetworkJob job, int rank, int size, string conduct, int? machine = null, string? networkNamespace = null) => StartBehind(
        networkNamespace is null ? [] : ["ip", "netns", "exec", networkNamespace], "rank", job.Directory, $"{rank}", $"{size}", job.End.ToString(), job.TokenPath, conduct, $"{machine}");

    private static RankProcess StartBehind(string[] wrapper, params string[] arguments)
    {
        string[] command = [.. wrapper, Path.Combine(AppContext.BaseDirectory, "Switchyard.Rendezvous.Tests"), .. arguments];
        var start = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true };
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
            Address = args.ElementAtOrDefault(3),
            TokenFile = args.ElementAtOrDefault(4),
            JoinTimeout = TimeSpan.FromSeconds(15),
        };
        string conduct = args.ElementAtOrDefault(5) ?? "busy";
        long began = Stopwatch.GetTimestamp();
        ExpertGroup group;
        try
        {
            group = args.ElementAtOrDefault(6) is { Length: > 0 } machine
                ? await NetworkJob.JoinAsync(options, int.Parse(machine, CultureInfo.InvariantCulture))
                : await ExpertGroup.JoinAsync(options);
        }
        catch (JoinException e)
        {
            Say($"refused {e.Message}");
            return 4;
        }
        using ExpertGroup joined = group;
        Say($"joined {Stopwatch.GetElapsedTime(began).TotalMilliseconds:0.0} {string.Join(',', group.Peers.Select(peer => peer.ProcessId))}");
        if (conduct == "leave") return 0;
        var watcher = new Watcher();
        group.Channel.AddWatcher(watcher);
        try
        {
            if (conduct == "idle") await watcher.Told;
            while (true)
            {
                await group.BarrierAsync();
                await Task.Delay(1);
            }
        }
        catch (PeerLostException e)
        {
            Say($"lost {e.Peer.Rank} {e.Peer.ProcessId} {Stopwatch.GetTimestamp()} {watcher.First} {e.Cause}");
            if (options.Address is not null) await Task.Delay(Timeout.Infinite); // lest others that are slow to notice take it for the cause
            Environment.Exit(3);
        }
        return 0;
    }

    public string ReadLine() => _process.StandardOutput.ReadLine() ?? "";

    public void Kill() => _process.Kill();

    public void Stop() => Assert.Equal(0, kill(Id, StopSignal));

    public void Continue() => Assert.Equal(0, kill(Id, ContinueSignal));

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private sealed class Watcher : IPeerWatcher
    {
        private readonly TaskCompletionSource _told = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public long First { get; private set; }

        public Task Told => _told.Task;

        public void OnPeerGone(PeerInfo peer, PeerState state, string cause)
        {
            if (First == 0) First = Stopwatch.GetTimestamp();
            _told.TrySetResult();
        }
    }

    [DllImport("libc")]
    private static extern int kill(int process, int signal);

    private static void Say(string line)
    {
        Console.WriteLine(line);
        Console.Out.Flush();
    }
}

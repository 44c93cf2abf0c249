using System.Diagnostics;
using System.Globalization;
using Switchyard.Conformance;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Engine;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cuda.Tests;

/// <summary>A rank of a scenario in a process of its own, which is this program again.</summary>
internal sealed class RankProcess : IDisposable
{
    public const string Mode = "rank";
    private const string UntilLost = "until-lost";
    private const string InAKernel = "in-a-kernel";

    /// <summary>The rank that is killed.</summary>
    public const int Victim = 1;

    /// <summary>The note of a victim whose kernel waits for the others, and that to them when it is no more.</summary>
    public const string IsInAKernel = "is-in-a-kernel", Killed = "killed";
    private readonly Process _process;
    private readonly Task<string> _output;
    private readonly Task<string> _error;

    private RankProcess(Process process) => (_process, _output, _error) = (process, process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());

    /// <param name="scenario">Its name.</param>
    /// <param name="ranks">Processes.</param>
    /// <param name="devices">Those that they are placed on in turn.</param>
    /// <param name="seed">Of the scenario.</param>
    /// <param name="directory">Where they meet.</param>
    public static RankProcess[] StartAll(string scenario, int ranks, int devices, int seed, string directory) =>
        [.. Enumerable.Range(0, ranks).Select(rank => Start(scenario, rank, ranks, rank % devices, seed, directory))];

    public static RankProcess[] StartStepping(int ranks, int devices, string directory) => StartAll(UntilLost, ranks, devices, 1, directory);

    /// <summary>Ranks of which <see cref="Victim"/> waits in a kernel for the others, and they for it to be killed.</summary>
    public static RankProcess[] StartWaiting(int ranks, int devices, string directory) => StartAll(InAKernel, ranks, devices, 1, directory);

    /// <summary>The process's part.</summary>
    public static async Task<int> RunAsync(string scenario, int ordinal, int seed)
    {
        try
        {
            using ExpertGroup group = await ExpertGroup.JoinAsync(ExpertGroupOptions.FromEnvironment());
            using var device = new CudaAccess(ordinal);
            var rank = new RankContext(group, CudaBackend.For(ordinal), seed, device);
            if (scenario is UntilLost or InAKernel) await StepUntilLostAsync(rank, waits: scenario == InAKernel);
            else await Scenario.All[scenario].RunAsync(rank);
            return 0;
        }
#pragma warning disable CA1031 // Whatever it is, the test that started this process must see it.
        catch (Exception failure)
#pragma warning restore CA1031
        {
            await Console.Error.WriteLineAsync(failure.ToString());
            return 1;
        }
    }

    /// <summary>What it wrote, once it has ended well.</summary>
    public async Task<string> EndAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        await _process.WaitForExitAsync(limit.Token);
        Assert.True(_process.ExitCode == 0, $"ended with {_process.ExitCode}: {await _error}");
        return await _output;
    }

    public void Kill() => _process.Kill();

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static RankProcess Start(string scenario, int rank, int ranks, int device, int seed, string directory)
    {
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "Switchyard.Cuda.Tests"), [Mode, scenario, device.ToString(CultureInfo.InvariantCulture), seed.ToString(CultureInfo.InvariantCulture)])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["SWITCHYARD_RANK"] = rank.ToString(CultureInfo.InvariantCulture);
        start.Environment["SWITCHYARD_WORLD_SIZE"] = ranks.ToString(CultureInfo.InvariantCulture);
        start.Environment["SWITCHYARD_DIRECTORY"] = directory;
        return new RankProcess(Process.Start(start)!);
    }

    private static string PathOf(string note) => Path.Combine(Environment.GetEnvironmentVariable("SWITCHYARD_DIRECTORY")!, note);

    private static Task SayAsync(string note) => File.WriteAllTextAsync(PathOf(note), "");

    private static async Task HearAsync(string note)
    {
        while (!File.Exists(PathOf(note))) await Task.Delay(5);
    }

    /// <summary>The next call's kernel notes that it runs, where its host sees it.</summary>
    private static unsafe void SayOnceInAKernel(CudaEngine engine)
    {
        PinnedMemory noted = PinnedMemory.Allocate(CudaContext.Retain(CudaDevice.Get(0)), 256 * sizeof(DispatchMarks));
        engine.Marks = noted.DeviceAddress;
        nint begun = noted.Handle;
        new Thread(() =>
        {
            while (Volatile.Read(ref *(ulong*)begun) == 0) Thread.Sleep(1);
            File.WriteAllText(PathOf(IsInAKernel), "");
        }).Start();
    }

    /// <summary>Exchanges until a rank is lost, and then in a group of those that remain, in the same process and context.</summary>
    private static async Task StepUntilLostAsync(RankContext rank, bool waits)
    {
        var shape = new Shape(rank.Group.Size, 6, 2, 64, 9, RowLayout.RankMajor, 1, Routing.Uniform);
        Random random = rank.SharedRandom();
        using TestBuffer buffer = await rank.CreateAsync<float>(shape);
        PeerLostException? lost = null;
        for (int step = 0; lost is null; step++)
        {
            if (step == 3)
            {
                if (!waits) await SayAsync($"stepping.{rank.Rank}");
                else if (rank.Rank == Victim) SayOnceInAKernel((CudaEngine)buffer.Inner.Engine);
                else await HearAsync(Killed);
            }
            try
            {
                Exchange.Run<float>(rank, buffer, shape, random);
            }
            catch (PeerLostException error)
            {
                lost = error;
            }
        }
        Console.WriteLine($"lost {string.Join(' ', lost.Lost.Select(peer => peer.Rank))}");
        using ExpertGroup rebuilt = await rank.Group.RebuildAsync();
        RankContext after = rank with { Group = rebuilt };
        Shape smaller = shape with { Ranks = rebuilt.Size };
        using TestBuffer next = await after.CreateAsync<float>(smaller);
        Random again = after.SharedRandom();
        for (int step = 0; step < 3; step++) Exchange.Run<float>(after, next, smaller, again);
        await rebuilt.BarrierAsync();
    }
}

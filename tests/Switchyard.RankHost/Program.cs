using System.Globalization;
using Switchyard;
using Switchyard.Conformance;
using Switchyard.Cpu;
using Switchyard.RankHost;

// One rank of a test, as a process: RankHost SCENARIO SEED, with the group's variables in the environment.
string scenario = args[0];
int seed = int.Parse(args[1], CultureInfo.InvariantCulture);
try
{
    using ExpertGroup group = await ExpertGroup.JoinAsync(ExpertGroupOptions.FromEnvironment());
    Func<RankContext, Task> run = scenario switch
    {
        RunUntilLost.Name => RunUntilLost.RunAsync,
        Survive.Name => Survive.RunAsync,
        MillionSteps.Name => MillionSteps.RunAsync,
        Threads.Name => Threads.RunAsync,
        Budget.Name => Budget.RunAsync,
        Crash.ByException or Crash.ByFailFast or Crash.ByMemory => rank => Crash.RunAsync(rank, scenario),
        CollectorStalls.Name => CollectorStalls.RunAsync,
        StarvedThreads.Name => StarvedThreads.RunAsync,
        RunUntilTold.Name => RunUntilTold.RunAsync,
        Cycles.Name => Cycles.RunAsync,
        _ => Scenario.All[scenario].RunAsync,
    };
    await run(new RankContext(group, CpuBackend.Instance, seed));
    return 0;
}
#pragma warning disable CA1031 // Whatever it is, the test that started this process must see it.
catch (Exception failure)
#pragma warning restore CA1031
{
    await Console.Error.WriteLineAsync(failure.ToString());
    return 1;
}

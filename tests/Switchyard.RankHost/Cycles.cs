using Switchyard.Conformance;

namespace Switchyard.RankHost;

/// <summary>
/// Makes and disposes buffers and groups again and again; what the process holds of the system stays what it was. It counts for the whole process,
/// so it has one to itself.
/// </summary>
internal static class Cycles
{
    public const string Name = "cycles";

    private const int WarmUp = 100;

    /// <summary>What the runtime opens for itself now and then (for sockets, for threads); a leak would be of each cycle.</summary>
    private const int OfTheRuntime = 4;

    public static async Task RunAsync(RankContext rank)
    {
        int buffers = Soak.Times(200, 10_000), groups = Soak.Times(40, 1000), locals = Soak.Times(40, 1000);
        await HoldsAsync("buffers", buffers, rank, _ => BufferAsync(rank));
        await HoldsAsync("groups", groups, rank, i => GroupAsync(rank, i));
        await HoldsAsync("local groups", locals, rank, _ => LocalAsync(rank));
        await rank.Group.BarrierAsync();
    }

    private static async Task BufferAsync(RankContext rank)
    {
        using Steps steps = await Steps.CreateAsync(rank);
        steps.Run(1);
    }

    private static async Task GroupAsync(RankContext rank, int number)
    {
        using ExpertGroup group = await ExpertGroup.JoinAsync(ExpertGroupOptions.FromEnvironment() with { Job = $"cycle-{number}" });
        await BufferAsync(rank with { Group = group });
        await group.BarrierAsync();
    }

    private static async Task LocalAsync(RankContext rank)
    {
        ExpertGroup[] groups = ExpertGroup.CreateLocal(2);
        await Task.WhenAll(groups.Select(group => Task.Factory.StartNew(
            () => BufferAsync(rank with { Group = group }).GetAwaiter().GetResult(), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
        foreach (ExpertGroup group in groups) group.Dispose();
    }

    private static async Task HoldsAsync(string what, int times, RankContext rank, Func<int, Task> cycle)
    {
        for (int i = -WarmUp; i < 0; i++) await cycle(times - i);
        Holdings before = Holdings.Now();
        for (int i = 0; i < times; i++) await cycle(i);
        // A peer's connections may be about to close.
        Holdings after = Holdings.Now();
        for (int patience = 100; after.Descriptors > before.Descriptors + OfTheRuntime && patience > 0; patience--)
        {
            await Task.Delay(20);
            after = Holdings.Now();
        }
        string figures = $"{times} {what}: descriptors {before.Descriptors} to {after.Descriptors}, mappings {before.Mappings} to {after.Mappings}, resident {before.ResidentKb} to {after.ResidentKb} kB";
        if (rank.Rank == 0) Console.WriteLine(figures);
        // So it maps and keeps a little.
        bool isFlat = after.Descriptors <= before.Descriptors + OfTheRuntime && after.Mappings <= before.Mappings + 30 && after.ResidentKb <= before.ResidentKb + (24 << 10);
        if (!isFlat) throw new InvalidOperationException(figures);
    }

    /// <summary>What this process holds of the system.</summary>
    private readonly record struct Holdings(int Descriptors, int Mappings, long ResidentKb)
    {
        public static Holdings Now()
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            GC.Collect();
            return new Holdings(Directory.GetFiles("/proc/self/fd").Length, File.ReadLines("/proc/self/maps").Count(), Environment.WorkingSet >> 10);
        }
    }
}

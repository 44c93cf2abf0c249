using System.Diagnostics;
using System.Runtime.InteropServices;
using Switchyard.Conformance;
using Xunit;

namespace Switchyard.RankHost;

/// <summary>
/// Steps, checking every row and sum; rebuilds whenever ranks are lost, and goes on in the group that remains, until that has the size wanted and
/// has stepped often enough. Prints what it saw, a line each: <c>stepping</c>, <c>lost</c>, <c>rebuilt</c>, <c>done</c>, with the clock's ticks.
/// </summary>
internal static class Survive
{
    public const string Name = "survive";

    private const int Experts = 16;
    private const int TopK = 4;
    private const int Hidden = 256;
    private const int Tokens = 24;
    private const int StepsAfterwards = 10;

    public static async Task RunAsync(RankContext first)
    {
        int lastSize = Number("SURVIVE_SIZE", first.Group.Size);
        TimeSpan deadline = TimeSpan.FromSeconds(Number("SURVIVE_DEADLINE", 60));
        ExpertGroup group = first.Group;
        Hold(Number("SURVIVE_GIGABYTES", 0));
        int[]? evicted = null;
        while (true)
        {
            try
            {
                if (evicted is not null) group = await RebuildAsync(group, evicted);
                evicted = null;
                group.Deadline = deadline;
                await StepAsync(first with { Group = group }, deadline, isLast: group.Size <= lastSize);
                await group.BarrierAsync();
                Say($"done {group.Generation} {group.Size}");
                return;
            }
            catch (PeerLostException lost)
            {
                Report("lost", group, lost.Lost.Select(peer => peer.ProcessId), lost.Site, lost.Message);
                evicted = [];
            }
            catch (PeerTimeoutException late)
            {
                Report("late", group, [late.Peer.ProcessId], late.Site, late.Message);
                // A rank that was stopped may hear first that it was late itself, and then that it is fenced.
                evicted = late.Peer.Rank == group.Rank ? [] : [late.Peer.Rank];
            }
            catch (FencedException fenced)
            {
                Report("fenced", group, [], fenced.Site, fenced.Message);
                return;
            }
        }
    }

    /// <summary>Takes memory and touches all of it, until the process ends.</summary>
    private static unsafe void Hold(int gigabytes)
    {
        nuint bytes = (nuint)gigabytes << 30;
        NativeMemory.Fill(NativeMemory.Alloc(bytes), bytes, 1);
    }

    private static async Task<ExpertGroup> RebuildAsync(ExpertGroup group, int[] evicted)
    {
        ExpertGroup rebuilt = await group.RebuildAsync(evicted);
        Say($"rebuilt {rebuilt.Generation} {rebuilt.Size} {string.Join(',', rebuilt.Peers.Select(peer => peer.ProcessId))}");
        group.Dispose();
        if (Number("SURVIVE_GROWS", 0) == 0) return rebuilt;
        ExpertGroup grown = await rebuilt.GrowAsync(group.Size - rebuilt.Size);
        Say($"grown {grown.Generation} {grown.Size}");
        rebuilt.Dispose();
        return grown;
    }

    /// <summary>Steps without end while the group is larger than the one wanted.</summary>
    private static async Task StepAsync(RankContext rank, TimeSpan deadline, bool isLast)
    {
        int ranks = rank.Group.Size;
        // All ranks fit any routing, and experts need not be a multiple of the ranks.
        var shape = new Shape(ranks, Experts, TopK, Hidden, Tokens, RowLayout.ExpertMajor, 1, Routing.Uniform);
        using ExpertBuffer buffer = (await rank.CreateAsync<BFloat16>(shape)).Inner;
        buffer.Deadline = deadline;
        BFloat16[] x = new BFloat16[Tokens * Hidden], output = new BFloat16[Tokens * Hidden], results = new BFloat16[ranks * Tokens * TopK * Hidden];
        int[] choices = new int[Tokens * TopK];
        for (int step = 0; !isLast || step < StepsAfterwards; step++)
        {
            for (int i = 0; i < x.Length; i++) x[i] = (BFloat16)ValueOf(rank.Rank, i / Hidden, i % Hidden, step);
            for (int i = 0; i < choices.Length; i++) choices[i] = ((i / TopK) + (i % TopK * 4) + step + rank.Rank) % Experts;
            Array.Fill(output, (BFloat16)float.NaN);
            using Dispatched d = buffer.Dispatch(x, choices, default, shape.Options);
            CheckRows(d, step);
            // Now from the arena, now from memory that must be copied there first.
            if (step % 2 == 0) buffer.Combine(d.Rows, d.Handle, output);
            else buffer.Combine(CopyOf(d, results), d.Handle, output);
            for (int i = 0; i < output.Length; i++) Assert.Equal(TopK * (float)x[i], (float)output[i]);
            if (step == 0) Say($"stepping {rank.Group.Generation} {ranks}");
        }
    }

    /// <summary>Whole numbers so small that all sums are exact.</summary>
    private static float ValueOf(int rank, int token, int column, int step) => ((rank * 31) + (token * 7) + (column * 3) + (step * 5)) % 61;

    private static void CheckRows(Dispatched d, int step)
    {
        ReadOnlySpan<BFloat16> rows = d.Rows.AsSpan<BFloat16>();
        for (int row = 0; row < d.RowCount; row++)
        {
            (int source, int token) = d.Sources[row];
            for (int column = 0; column < Hidden; column++) Assert.Equal(ValueOf(source, token, column, step), (float)rows[(row * Hidden) + column]);
        }
    }

    private static ReadOnlySpan<BFloat16> CopyOf(Dispatched d, BFloat16[] results)
    {
        d.Rows.AsSpan<BFloat16>()[..(d.RowCount * Hidden)].CopyTo(results);
        return results.AsSpan(0, d.RowCount * Hidden);
    }

    private static void Report(string what, ExpertGroup group, IEnumerable<int> processes, CallSite site, string message) =>
        Say($"{what} {group.Generation} {string.Join(',', processes)} {site.Operation}/{site.Phase}/{site.Epoch} {message}");

    private static void Say(string line)
    {
        string[] words = line.Split(' ', 2);
        Console.WriteLine($"{words[0]} {Stopwatch.GetTimestamp()} {words[1]}");
        Console.Out.Flush();
    }

    private static int Number(string variable, int otherwise) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, System.Globalization.CultureInfo.InvariantCulture) : otherwise;
}

using Switchyard;
using Switchyard.Cpu;

// Two ranks with two experts each. Every token chooses two experts; expert e multiplies by e + 1; combine adds what comes back.
// From the repository's root:
//   dotnet run -c Release --project samples/01-hello-dispatch                                         two ranks as threads
//   ./switchyard launch -n 2 -- dotnet artifacts/bin/HelloDispatch/release/HelloDispatch.dll          two ranks as processes
const int Experts = 4, TopK = 2, Hidden = 3;

if (Environment.GetEnvironmentVariable("SWITCHYARD_RANK") is not null)
{
    using ExpertGroup group = await ExpertGroup.JoinAsync(ExpertGroupOptions.FromEnvironment());
    RunRank(group);
}
else
{
    // Calls wait for each other, so each rank needs a thread of its own.
    Thread[] ranks = [.. ExpertGroup.CreateLocal(2).Select(group => new Thread(() => RunRank(group)))];
    foreach (Thread rank in ranks) rank.Start();
    foreach (Thread rank in ranks) rank.Join();
}

static void RunRank(ExpertGroup group)
{
    using ExpertBuffer buffer = ExpertBuffer.CreateAsync(group, new ExpertBufferOptions
    {
        Backend = CpuBackend.Instance,
        Experts = Experts,
        TopK = TopK,
        Hidden = Hidden,
        MaxTokensPerRank = 2,
        Element = ElementType.Single,
    }).GetAwaiter().GetResult();

    float[] x = group.Rank == 0 ? [1, 1, 1, 2, 2, 2] : [3, 3, 3];
    int[] choices = group.Rank == 0 ? [0, 3, 1, 2] : [2, -1];

    using Dispatched d = buffer.Dispatch(x, choices, options: new() { Layout = RowLayout.ExpertMajor });
    for (int local = 0; local < d.TokensPerExpert.Length; local++)
    {
        int expert = buffer.LocalExperts[local];
        for (int row = d.ExpertOffsets[local]; row < d.ExpertOffsets[local] + d.TokensPerExpert[local]; row++)
        {
            Console.WriteLine($"rank {group.Rank}, expert {expert}: token {d.Sources[row].Token} of rank {d.Sources[row].Rank}");
            Span<float> token = d.Rows.Row<float>(row), result = d.ResultRows.Row<float>(row);
            for (int i = 0; i < Hidden; i++) result[i] = token[i] * (expert + 1);
        }
    }

    float[] output = new float[x.Length];
    buffer.Combine(d.ResultRows, d.Handle, output);
    Console.WriteLine($"rank {group.Rank}: {string.Join(' ', x)}  became  {string.Join(' ', output)}");
}

namespace Switchyard.Cli.Bench.Work;

/// <summary>A row that a rank must receive.</summary>
internal readonly record struct ExpectedRow(RowSource Source, Destination Destination)
{
    /// <summary>In the documented order: by source rank, then token; in expert-major by expert before that.</summary>
    public static List<ExpectedRow> ListOf(Workload workload, int receiver)
    {
        var rows = new List<ExpectedRow>(workload.RowsReceivedBy(receiver));
        for (int source = 0; source < workload.Shape.Ranks; source++)
        {
            for (int token = 0; token < workload.Shape.Tokens; token++)
            {
                foreach (Destination destination in workload.DestinationsOf(source, token))
                {
                    if (destination.Rank == receiver)
                        rows.Add(new ExpectedRow(new RowSource(source, token), destination));
                }
            }
        }
        // OrderBy keeps the order of equals; in rank-major all are.
        return [.. rows.OrderBy(row => row.Destination.Expert)];
    }
}

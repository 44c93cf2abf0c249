using System.Globalization;

namespace MoeTraining;

/// <summary>Trains twice, over four ranks and on one, shows both, compares them and writes the report.</summary>
internal static class Conductor
{
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(int steps, string? output, CancellationToken ct)
    {
        try
        {
            string root = Repository.FindRoot();
            string folder = MakeFolder(output ?? Path.Combine(root, "out", "demo"));
            byte[] text = Repository.ReadText(root);
            string corpus = Path.Combine(folder, "corpus.txt");
            await WriteAsync(corpus, text, ct);
            return await TrainAndCompareAsync(root, folder, corpus, text.Length, steps, ct);
        }
        catch (DemoException failure)
        {
            await Console.Error.WriteLineAsync($"demo: {failure.Message}");
            return 1;
        }
        catch (OperationCanceledException)
        {
            await Console.Error.WriteLineAsync("demo: stopped; the ranks have ended.");
            return 130;
        }
    }

    private static async Task<int> TrainAndCompareAsync(
        string root, string folder, string corpus, int corpusBytes, int steps, CancellationToken ct)
    {
        TrainingRun[] runs = [new(ranks: 4, steps), new(ranks: 1, steps)];
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Training twice for {steps} steps on {corpusBytes:N0} bytes of this repository's text."));
        await Display.ShowAsync(runs, async changed =>
        {
            foreach (TrainingRun run in runs)
            {
                await RankLauncher.RunAsync(root, run, corpus, progress =>
                {
                    run.Add(progress);
                    changed();
                }, ct);
            }
        });

        Agreement agreement = Agreement.Of(runs[0], runs[1]);
        string page = Report.Write(folder, new Demo(runs, agreement, new ModelShape(), corpusBytes));
        foreach (TrainingRun run in runs) Console.WriteLine(Lines.Summary(run));
        Console.WriteLine(agreement.Verdict);
        Console.WriteLine($"Report: {page}");
        return agreement.IsClose ? 0 : 1;
    }

    private static string MakeFolder(string path)
    {
        try
        {
            return Directory.CreateDirectory(path).FullName;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new DemoException($"Cannot make the output folder '{path}': {failure.Message}");
        }
    }

    private static async Task WriteAsync(string path, byte[] content, CancellationToken ct)
    {
        try
        {
            await File.WriteAllBytesAsync(path, content, ct);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new DemoException($"Cannot write to the output folder: {failure.Message}");
        }
    }
}

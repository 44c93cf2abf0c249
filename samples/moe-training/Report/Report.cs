using System.Globalization;
using System.Net;
using System.Text;

namespace MoeTraining;

/// <summary>Writes the pictures, and a page that has them inside.</summary>
internal static class Report
{
    /// <returns>The page's path.</returns>
    /// <exception cref="DemoException">A file cannot be written.</exception>
    public static string Write(string folder, Demo demo)
    {
        Pictures.LoadFont();
        List<(string Name, string Text, byte[] Png)> pictures =
        [
            ("loss", "Both runs start from the same weights and see the same text. One curve hides the other where they agree.", Pictures.Loss(demo)),
            .. Enumerable.Range(0, demo.Shape.Blocks).Select(block => (
                $"load-{block + 1}",
                $"How often the tokens chose each expert of block {block + 1}. White lines part the ranks that hold them.",
                Pictures.Load(demo, block))),
            ("step-time", "Dispatch, combine and the gradient sum include waiting for the slowest rank, and for a core where there are fewer cores than ranks. Means of the second half of the run, without start-up and compilation; the table's seconds include both.",
                Pictures.StepTime(demo)),
        ];
        try
        {
            foreach ((string name, _, byte[] png) in pictures) File.WriteAllBytes(Path.Combine(folder, name + ".png"), png);
            string page = Path.Combine(folder, "index.html");
            File.WriteAllText(page, Page(demo, pictures));
            return page;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new DemoException($"Cannot write the report: {failure.Message}");
        }
    }

    private static string Page(Demo demo, List<(string Name, string Text, byte[] Png)> pictures)
    {
        var figures = new StringBuilder();
        foreach ((string name, string text, byte[] png) in pictures)
            figures.Append(CultureInfo.InvariantCulture, $"""<figure><img alt="{name}" src="data:image/png;base64,{Convert.ToBase64String(png)}"><figcaption>{Encode(text)}</figcaption></figure>""").AppendLine();
        ModelShape shape = demo.Shape;
        return string.Create(CultureInfo.InvariantCulture, $$"""
            <!doctype html>
            <html lang="en">
            <meta charset="utf-8">
            <title>Switchyard: training a mixture of experts</title>
            <style>
              body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
              img { width: 100%; border: 1px solid #ddd; }
              figure { margin: 2rem 0; }
              figcaption { color: #555; }
              table { border-collapse: collapse; }
              td, th { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
              td:first-child, th:first-child { text-align: left; }
              .verdict { padding: .8rem 1rem; font-weight: 600; background: {{(demo.Agreement.IsClose ? "#e3f2e6" : "#fbe3e3")}}; }
            </style>
            <h1>Training a mixture of experts over four ranks</h1>
            <p>A language model over bytes with {{shape.Blocks}} blocks of attention and {{shape.Experts}} experts, of which each token takes
            {{shape.TopK}}, learns {{demo.CorpusBytes:N0}} bytes of this repository's text, {{shape.TokensPerStep:N0}} tokens a step. Tokens reach their
            experts by Switchyard's dispatch and combine, forward and backward.</p>
            <p class="verdict">{{Encode(demo.Agreement.Verdict)}}</p>
            <table>
            <tr><th>run</th><th>first loss</th><th>last loss</th><th>seconds</th><th>tokens/s</th><th>moved</th><th>between ranks</th></tr>
            {{string.Join('\n', demo.Runs.Select(Row))}}
            </table>
            {{figures}}
            </html>
            """);
    }

    private static string Row(TrainingRun run) => string.Create(CultureInfo.InvariantCulture,
        $"<tr><td>{run.Name}</td><td>{run.Losses[0]:F3}</td><td>{run.LastLoss:F3}</td><td>{run.Seconds:F1}</td><td>{run.TokensPerSecond:N0}</td><td>{Lines.Bytes(run.BytesMoved)}</td><td>{Lines.Bytes(run.BytesCrossed)}</td></tr>");

    private static string Encode(string text) => WebUtility.HtmlEncode(text);
}

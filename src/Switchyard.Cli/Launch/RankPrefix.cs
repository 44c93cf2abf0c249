using System.Text;
using Spectre.Console;

namespace Switchyard.Cli.Launch;

internal static class RankPrefix
{
    private static readonly Color[] _colors = [Color.Aqua, Color.Yellow, Color.Lime, Color.Fuchsia, Color.DodgerBlue1, Color.Orange1];

    public static byte[] For(int rank, bool toError)
    {
        string plain = $"[rank {rank}] ";
        bool redirected = toError ? Console.IsErrorRedirected : Console.IsOutputRedirected;
        return Encoding.UTF8.GetBytes(redirected || !TerminalHasColors() ? plain : Colored(plain, _colors[rank % _colors.Length]));
    }

    private static bool TerminalHasColors() =>
        string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")) && Environment.GetEnvironmentVariable("TERM") is not (null or "dumb");

    private static string Colored(string text, Color color)
    {
        using var writer = new StringWriter();
        var settings = new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.Yes,
            ColorSystem = ColorSystemSupport.EightBit,
            Out = new AnsiConsoleOutput(writer),
        };
        AnsiConsole.Create(settings).Write(new Text(text, new Style(color)));
        return writer.ToString();
    }
}

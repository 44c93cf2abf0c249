using System.CommandLine;
using System.Runtime.Versioning;
using Switchyard.Cli.Bench;
using Switchyard.Cli.Bench.Work;
using Switchyard.Cli.Launch;

[assembly: SupportedOSPlatform("linux")]

namespace Switchyard.Cli;

internal static class Program
{
    internal const int UsageError = 2;

    internal static async Task<int> Main(string[] args)
    {
        var root = new RootCommand("Switchyard: expert-parallel token exchange for mixture-of-experts models.")
        {
            LaunchCommand.Create(),
            BenchCommand.Create(),
            WorkCommand.Create(),
        };
        // No response files: an argument that begins with '@' belongs to the ranks' program.
        ParseResult parse = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parse.Errors.Count > 0)
            return Refuse($"{parse.Errors[0].Message} See '{HelpFor(parse.CommandResult.Command)}'.");
        try
        {
            // No timeout: with one, System.CommandLine would take the signals that launch passes on.
            return await parse.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null, EnableDefaultExceptionHandler = false });
        }
        catch (UsageException refused)
        {
            return Refuse(refused.Message);
        }
    }

    private static string HelpFor(Command command) => command is RootCommand ? "switchyard --help" : $"switchyard {command.Name} --help";

    private static int Refuse(string message)
    {
        Console.Error.WriteLine($"switchyard: {message}");
        return UsageError;
    }
}

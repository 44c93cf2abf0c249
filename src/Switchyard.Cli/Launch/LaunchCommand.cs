using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Security.Cryptography;

namespace Switchyard.Cli.Launch;

internal static class LaunchCommand
{
    private const string Description = """
        Starts the ranks of a job on this machine, names their output, and ends them together.

        Ranks   Each gets an empty input and a process group of its own; what it leaves running there is killed when it ends. Variables:
                SWITCHYARD_RANK, _WORLD_SIZE, _LOCAL_RANK, _JOB, _DIRECTORY, _TOKEN_FILE, _FAULT_NOTES, and _LAUNCH, the job's mark.
        Output  Line by line behind the rank's number, each stream on its own.
        Ends    When a rank fails, the others have --grace to end by themselves, then SIGTERM, and the same time until SIGKILL.
                SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on; a second one kills. If the launcher is killed, all ranks are.
                What happened is told in a summary, the root cause first.

        Exit codes:
          0         all ranks succeeded; with --keep-going, one did
          2         nothing was started: the command is wrong
          other     the code of the rank at fault: the first that failed, or the one that this blamed if that failed too
          128 + N   that rank was killed by signal N

        Examples:
          switchyard launch -n 4 -- dotnet run --no-build
          switchyard launch -n 2 --bind core -- ./Trainer.dll --steps 100
          switchyard launch -n 8 --grace 30 --job night -- ./trainer --quick
          switchyard launch -n 8 --keep-going -- ./TrainerThatRebuilds.dll
        """;

    private const string Example = "switchyard launch -n 2 -- ./program --its-option";

    private static readonly Option<int> _ranks = new("-n", "--ranks")
    {
        HelpName = "N",
        Description = $"Ranks to start, 1 to {Limits.MaxRanks}.",
        Required = true,
    };

    private static readonly Option<string?> _job = new("--job")
    {
        HelpName = "NAME",
        Description = "The job's name: at most 64 letters, digits, '.', '-' and '_'. Default: a unique one.",
    };

    private static readonly Option<string?> _tokenFile = new("--token-file")
    {
        HelpName = "FILE",
        Description = "A 0600 file with the job's token. Default: a fresh token in a private file that ends with the job.",
    };

    private static readonly Option<string?> _meetingDirectory = new("--directory")
    {
        HelpName = "DIRECTORY",
        Description = "The folder where the ranks meet. Default: a private one that ends with the job.",
    };

    private static readonly Option<double> _grace = new("--grace")
    {
        HelpName = "SECONDS",
        Description = "Seconds that ranks have to end by themselves, after a failure or a signal, before they are made to.",
        DefaultValueFactory = _ => 5,
    };

    private static readonly Option<bool> _keepGoing = new("--keep-going")
    {
        Description = "Do not end the others when a rank fails: they rebuild their group and go on. The job succeeds if one of them does.",
    };

    private static readonly Option<string> _bind = new("--bind")
    {
        HelpName = "none|core",
        Description = "core: each rank has whole cores of its own, out of those that this command may use.",
        DefaultValueFactory = _ => "none",
    };

    private static readonly Option<bool> _noPrefix = new("--no-prefix")
    {
        Description = "Hand the ranks' output through as it is.",
    };

    private static readonly Argument<string[]> _programAndArguments = new("program")
    {
        Description = "After '--': the program and its arguments. A .dll runs with dotnet.",
        Arity = ArgumentArity.ZeroOrMore,
    };

    public static Command Create()
    {
        var command = new Command("launch", Description)
        {
            _ranks, _job, _tokenFile, _meetingDirectory, _grace, _keepGoing, _bind, _noPrefix, _programAndArguments,
        };
        command.SetAction((parse, _) => Launcher.RunAsync(Read(parse)));
        return command;
    }

    private static LaunchOptions Read(ParseResult parse) => new()
    {
        Ranks = CheckedRanks(parse.GetValue(_ranks)),
        Job = CheckedJob(parse.GetValue(_job)),
        TokenFile = CheckedTokenFile(parse.GetValue(_tokenFile)),
        Directory = parse.GetValue(_meetingDirectory) is { } path ? Path.GetFullPath(path) : null,
        Grace = CheckedGrace(parse.GetValue(_grace)),
        KeepsGoing = parse.GetValue(_keepGoing),
        Bind = CheckedBinding(parse.GetValue(_bind)!),
        Prefix = !parse.GetValue(_noPrefix),
        Command = ProgramFinder.Resolve(AfterDashes(parse)),
    };

    private static int CheckedRanks(int ranks) => ranks is >= 1 and <= Limits.MaxRanks
        ? ranks
        : throw new UsageException($"-n is {ranks}: it must be 1 to {Limits.MaxRanks} ranks.");

    private static string CheckedJob(string? job)
    {
        if (job is null)
            return "job-" + RandomNumberGenerator.GetHexString(12, lowercase: true);
        return ExpertGroupOptions.IsJobName(job) ? job : throw new UsageException($"--job is '{job}': it must be 1 to 64 letters, digits, '.', '-' or '_'.");
    }

    private static string? CheckedTokenFile(string? path)
    {
        if (path is null)
            return null;
        return File.Exists(path) ? Path.GetFullPath(path) : throw new UsageException($"--token-file is '{path}': there is no such file.");
    }

    private static TimeSpan CheckedGrace(double seconds) => seconds is >= 0 and <= 86400
        ? TimeSpan.FromSeconds(seconds)
        : throw new UsageException(string.Create(CultureInfo.InvariantCulture, $"--grace is {seconds}: it must be 0 to 86400 seconds."));

    private static Binding CheckedBinding(string bind) => bind switch
    {
        "none" => Binding.None,
        "core" => Binding.Core,
        _ => throw new UsageException($"--bind is '{bind}': it must be none or core."),
    };

    private static string[] AfterDashes(ParseResult parse)
    {
        string[] words = parse.GetValue(_programAndArguments) ?? [];
        int afterDashes = parse.Tokens.SkipWhile(token => token.Type != TokenType.DoubleDash).Skip(1).Count();
        if (afterDashes != words.Length)
            throw new UsageException($"put '--' before the program, as in: {Example}");
        if (words.Length > 0)
            return words;
        bool dashes = parse.Tokens.Any(token => token.Type == TokenType.DoubleDash);
        throw new UsageException(dashes ? "no program after '--'." : $"the program is missing, as in: {Example}");
    }
}

using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Switchyard.Topology;

namespace Switchyard.Cli.Launch;

/// <summary>
/// Starts the ranks, on a thread that lives as long as the crew: the kernel sends the parent-death signal when the <em>thread</em> that
/// forked ends, so a pool thread would take its ranks along.
/// </summary>
internal sealed class Crew : IDisposable
{
    // A rank's program begins once the guard knows of it, so that nothing it starts can outlive a launcher that is killed early.
    // bash -p hands the environment on as it is: dash drops names with a dot, and plain bash would run what BASH_ENV names.
    private const string WaitForRelease = "read -r _ && exec \"$@\"";

    private readonly LaunchOptions _options;
    private readonly JobDirectory _directory;
    private readonly string _mark;
    private readonly int[][]? _shares;
    private readonly Output _output;
    private readonly Guard _guard;
    private readonly List<RankProcess> _ranks = [];
    private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ManualResetEventSlim _over = new();

    private Crew(LaunchOptions options, JobDirectory directory, string mark, Output output, Guard guard)
    {
        _options = options;
        _directory = directory;
        _mark = mark;
        _shares = options.Bind == Binding.Core ? CoreShares.Of(options.Ranks) : null;
        _output = output;
        _guard = guard;
    }

    public IReadOnlyList<RankProcess> Ranks => _ranks;

    public static async Task<Crew> StartAsync(LaunchOptions options, JobDirectory directory, string mark, Output output, Guard guard)
    {
        var crew = new Crew(options, directory, mark, output, guard);
        new Thread(crew.StartAndStay) { IsBackground = true, Name = "ranks' parent" }.Start();
        await crew._started.Task;
        return crew;
    }

    public void Dispose()
    {
        _over.Set();
        _ranks.ForEach(rank => rank.Dispose());
    }

    private void StartAndStay()
    {
        try
        {
            for (int rank = 0; rank < _options.Ranks; rank++)
                Start(rank);
            _started.SetResult();
            _over.Wait();
        }
        catch (Exception failure) when (failure is Win32Exception or IOException or UsageException or TransportException)
        {
            _ranks.ForEach(rank => rank.Send(Signal.Kill));
            _started.SetException(new UsageException($"cannot start rank {_ranks.Count}: {failure.Message}"));
        }
    }

    private void Start(int rank)
    {
        // A process starts with the processors of the thread that forks it; this one has nothing else to do.
        if (_shares is not null)
            ProcessorAffinity.Bind($"rank {rank} (--bind)", _shares[rank]);
        RankProcess started = RankProcess.Start(rank, StartInfo(rank), _output);
        _ranks.Add(started);
        _guard.Watch(started.Pid);
        started.Release();
    }

    private ProcessStartInfo StartInfo(int rank)
    {
        string setpriv = ProgramFinder.Required("setpriv", "util-linux");
        string setsid = ProgramFinder.Required("setsid", "util-linux");
        string environment = ProgramFinder.Required("env", "coreutils");
        string bash = ProgramFinder.Required("bash", "bash");
        // The runtime of this tool ignores SIGPIPE, and what is ignored is inherited: a rank shall have it as from a shell.
        // None of these forks: the rank keeps the process id that Process.Start returns, and leads the group of that number.
        string[] arguments =
        [
            "--pdeathsig", "KILL", "--", setsid, environment, "--default-signal=PIPE",
            bash, "-p", "-c", WaitForRelease, "switchyard-rank", .. _options.Command,
        ];
        var info = new ProcessStartInfo(setpriv, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = _options.Prefix,
            RedirectStandardError = _options.Prefix,
        };
        SetVariables(info.Environment, rank);
        return info;
    }

    private void SetVariables(IDictionary<string, string?> variables, int rank)
    {
        string number = rank.ToString(CultureInfo.InvariantCulture);
        variables[JobMark.Variable] = JobMark.ValueOf(_mark);
        variables["SWITCHYARD_RANK"] = number;
        variables["SWITCHYARD_LOCAL_RANK"] = number;
        variables["SWITCHYARD_WORLD_SIZE"] = _options.Ranks.ToString(CultureInfo.InvariantCulture);
        variables["SWITCHYARD_JOB"] = _options.Job;
        variables["SWITCHYARD_DIRECTORY"] = _directory.MeetingPath;
        variables["SWITCHYARD_TOKEN_FILE"] = _directory.TokenFile;
        variables["SWITCHYARD_FAULT_NOTES"] = _directory.MeetingPath;
        foreach ((string name, string value) in _options.Variables)
            variables[name] = value;
        // A .NET process that is killed leaves its diagnostics socket in the temporary folder; without diagnostics it makes none.
        variables.TryAdd("DOTNET_EnableDiagnostics", "0");
    }
}

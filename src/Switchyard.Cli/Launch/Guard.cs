using System.Diagnostics;

namespace Switchyard.Cli.Launch;

/// <summary>
/// A small process that outlives a killed launcher: when its input ends, it kills the process groups last named there, kills what left them but
/// still carries the job's mark in its environment, and removes a folder. The kernel's parent-death signal reaches the ranks themselves; this
/// reaches the processes that they started.
/// </summary>
internal sealed class Guard : IAsyncDisposable
{
    private const string Script = """
        trap '' HUP INT QUIT TERM
        exec >/dev/null 2>&1
        cd /
        while read -r line; do last=$line; done
        if [ "$last" != over ]; then
            [ -z "$last" ] || kill -s KILL -- $last
            # Again, as what is found may have started another meanwhile.
            for pass in 1 2 3; do
                for found in $(grep -lzsx -- "$2" /proc/[0-9]*/environ); do
                    found=${found#/proc/}
                    kill -s KILL "${found%/environ}"
                done
            done
        fi
        [ -z "$1" ] || rm -rf -- "$1"
        """;

    private readonly Process _process;
    private readonly SortedSet<int> _leaders = [];
    private readonly Lock _lock = new();

    private Guard(Process process) => _process = process;

    /// <param name="directory">The folder to remove; it may be made later.</param>
    /// <param name="mark">NAME=VALUE as it stands in the environment of all that belongs to the job, and of nothing else.</param>
    public static Guard Start(string? directory, string mark)
    {
        string[] command = [ProgramFinder.Required("sh", "dash"), "-c", Script, "switchyard-guard", directory ?? "", mark];
        var info = new ProcessStartInfo(ProgramFinder.Required("setsid", "util-linux"), command) { RedirectStandardInput = true };
        return new Guard(Process.Start(info)!);
    }

    public void Watch(int leader) => Change(() => _leaders.Add(leader));

    public void Forget(int leader) => Change(() => _leaders.Remove(leader));

    public async ValueTask DisposeAsync()
    {
        Write("over");
        try
        {
            _process.StandardInput.Close();
        }
        catch (IOException)
        {
            // The guard is gone already; the launcher does its own cleaning.
        }
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private void Change(Action change)
    {
        lock (_lock)
        {
            change();
            Write(string.Join(' ', _leaders.Select(leader => $"-{leader}")));
        }
    }

    private void Write(string line)
    {
        try
        {
            _process.StandardInput.WriteLine(line);
            _process.StandardInput.Flush();
        }
        catch (IOException)
        {
            // The guard was killed. The job goes on: only a launcher killed as well would leave anything behind.
        }
    }
}

using System.Diagnostics;

namespace Switchyard.Cli.Launch;

/// <summary>
/// A small process that outlives a killed launcher: when its input ends, it kills the process groups last named there and removes the
/// job's folder. The kernel's parent-death signal reaches the ranks themselves; this reaches the processes that they started.
/// </summary>
internal sealed class Guard : IAsyncDisposable
{
    private const string Script = """
        trap '' HUP INT QUIT TERM
        exec >/dev/null 2>&1
        cd /
        while read -r line; do groups=$line; done
        [ -z "$groups" ] || kill -s KILL -- $groups
        [ -z "$1" ] || rm -rf -- "$1"
        """;

    private readonly Process _process;
    private readonly SortedSet<int> _leaders = [];
    private readonly Lock _lock = new();

    private Guard(Process process) => _process = process;

    public static Guard Start(string? directory)
    {
        string[] command = [ProgramFinder.Required("sh", "dash"), "-c", Script, "switchyard-guard", directory ?? ""];
        var info = new ProcessStartInfo(ProgramFinder.Required("setsid", "util-linux"), command) { RedirectStandardInput = true };
        return new Guard(Process.Start(info)!);
    }

    public void Watch(int leader) => Change(() => _leaders.Add(leader));

    public void Forget(int leader) => Change(() => _leaders.Remove(leader));

    public async ValueTask DisposeAsync()
    {
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

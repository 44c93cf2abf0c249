using System.Diagnostics;
using System.Text.Json;
using Switchyard.Cli.Launch;

namespace Switchyard.Cli.Bench.Peers;

/// <summary>The same exchange as a user writes it with MPI today, built from the checkout's <c>bench/peers/mpi_peer.c</c>.</summary>
internal sealed class MpiPeer
{
    public const string Name = "mpi";

    private const string Packages = "openmpi-bin libopenmpi-dev";

    private readonly string _program;
    private readonly string _mpirun;

    private MpiPeer(string program, string mpirun)
    {
        _program = program;
        _mpirun = mpirun;
    }

    /// <summary>What the peer can do is refused beforehand if a shape asks for more.</summary>
    /// <exception cref="UsageException">It cannot.</exception>
    public static void RequireShape(Shape shape)
    {
        if (!shape.Processes)
            throw new UsageException("--peer mpi has a process a rank: add --processes.");
        if (shape.Element != "bf16" || shape.Layout != RowLayout.RankMajor || shape.Routing != "uniform")
        {
            throw new UsageException(
                $"--peer mpi knows bf16, rank and uniform, not {shape.Element}, {shape.LayoutName} and {shape.Routing}.");
        }
        if (shape.Tokens == 0)
            throw new UsageException("--peer mpi needs a token on each rank, but --tokens is 0.");
        if (shape.Experts % shape.Ranks != 0)
        {
            throw new UsageException(
                $"--peer mpi needs as many experts on each rank, but --experts is {shape.Experts} and --ranks is {shape.Ranks}.");
        }
    }

    /// <exception cref="UsageException">There is no checkout or no MPI, or it does not compile.</exception>
    public static async Task<MpiPeer> BuildAsync()
    {
        string root = CheckoutRoot() ?? throw new UsageException("--peer mpi is built from a checkout, and this tool is outside of one.");
        string mpicc = ProgramFinder.Required("mpicc", Packages);
        string mpirun = ProgramFinder.Required("mpirun", Packages);
        string program = Path.Combine(root, "artifacts", "peers", "mpi_peer");
        Directory.CreateDirectory(Path.GetDirectoryName(program)!);
        string[] arguments = ["-O3", "-march=native", "-o", program, Path.Combine(root, "bench", "peers", "mpi_peer.c")];
        using Process compiler = Process.Start(new ProcessStartInfo(mpicc, arguments))!;
        await compiler.WaitForExitAsync();
        return compiler.ExitCode == 0
            ? new MpiPeer(program, mpirun)
            : throw new UsageException($"--peer mpi: mpicc ended with exit code {compiler.ExitCode}.");
    }

    public async Task<PeerResult> RunAsync(Work.Job job, string scratch)
    {
        string result = Path.Combine(scratch, "peer.json");
        int[] numbers = [job.Shape.Tokens, job.Shape.Hidden, job.Shape.TopK, job.Shape.Experts, job.Repetitions, job.Warmup];
        string[] arguments = [.. numbers.Select(number => $"{number}"), result];
        string[] command = [_mpirun, "--oversubscribe", "-n", $"{job.Shape.Ranks}", _program, .. arguments];
        // mpirun is launched like one rank, so that it and what it starts end with this tool.
        await Subjob.RunAsync(1, command, new() { ["OMPI_ALLOW_RUN_AS_ROOT"] = "1", ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1" });
        return JsonSerializer.Deserialize(await File.ReadAllBytesAsync(result), BenchJson.Default.PeerResult)!;
    }

    private static string? CheckoutRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Switchyard.slnx")))
            folder = Path.GetDirectoryName(folder);
        return folder;
    }
}

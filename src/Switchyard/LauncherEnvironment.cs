using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Switchyard;

/// <summary>A number and the environment variable that gave it.</summary>
internal readonly record struct NumberVariable(string Name, int Value)
{
    public static NumberVariable Parse(string name, string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? new(name, number)
            : throw new InvalidOperationException($"{name} is '{text}', not a whole number of 0 or more.");

    public override string ToString() => $"{Name} is '{Value}'";
}

/// <summary>
/// What the launcher that started this process tells it, where that is not <c>switchyard launch</c>. docs/launching.md lists the launchers, what is
/// read and which comes first.
/// </summary>
internal sealed class LauncherEnvironment
{
    /// <summary>In the order in which they are looked for: one that runs inside another (mpirun in a Slurm job) before that.</summary>
    private static readonly Launcher[] _launchers =
    [
        new("torchrun", "torchrun", "RANK", ["WORLD_SIZE"])
        {
            LocalSize = "LOCAL_WORLD_SIZE",
            // The run's id is 'none' unless given, the port then tells jobs apart; a restarted run must not meet the ranks of the last.
            JobIds = [["TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"]],
        },
        new("Open MPI", "ompi", "OMPI_COMM_WORLD_RANK", ["OMPI_COMM_WORLD_SIZE"])
        {
            LocalSize = "OMPI_COMM_WORLD_LOCAL_SIZE",
            JobIds = [["PMIX_NAMESPACE"], ["OMPI_MCA_ess_base_jobid"]],
        },
        new("PMI", "pmi", "PMI_RANK", ["PMI_SIZE"])
        {
            LocalSize = "MPI_LOCALNRANKS",
            Nodes = ["SLURM_STEP_NUM_NODES"],
            JobIds = [["PMI_JOBID"], ["PMIX_NAMESPACE"]],
            // Hydra, of MPICH and Intel MPI, gives no id.
            IsToldByItsProcess = true,
        },
        new("srun", "slurm", "SLURM_PROCID", ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"])
        {
            // In a batch script, which is no rank, all but this are set.
            Mark = "SLURM_STEP_ID",
            Nodes = ["SLURM_STEP_NUM_NODES", "SLURM_NNODES"],
            JobIds = [["SLURM_JOB_ID", "SLURM_STEP_ID"]],
        },
        new("PMIx", "pmix", "PMIX_RANK", []) { JobIds = [["PMIX_NAMESPACE"]] },
    ];

    private readonly Launcher _launcher;
    private readonly Func<string, string?> _variables;

    private LauncherEnvironment(Launcher launcher, Func<string, string?> variables)
    {
        _launcher = launcher;
        _variables = variables;
    }

    /// <summary>The launchers that are known, and by what.</summary>
    public static string Known => string.Join(", ", _launchers.Select(launcher => $"{launcher.Name} ({launcher.Mark ?? launcher.Rank})"));

    public string Name => _launcher.Name;

    /// <summary>The first launcher of which a variable is set; null for none.</summary>
    public static LauncherEnvironment? Find(Func<string, string?> variables)
    {
        Launcher? found = Array.Find(_launchers, launcher =>
            (launcher.Mark is null || variables(launcher.Mark) is not null)
            && launcher.Sizes.Prepend(launcher.Rank).Any(name => variables(name) is not null));
        return found is null ? null : new LauncherEnvironment(found, variables);
    }

    /// <exception cref="InvalidOperationException">It is not set, or malformed.</exception>
    public NumberVariable Rank() => Number(_launcher.Rank)
        ?? throw new InvalidOperationException($"{FirstSet(_launcher.Sizes)} is set, but {_launcher.Rank} is not: {Name} sets both. Set it, or SWITCHYARD_RANK.");

    /// <inheritdoc cref="Rank"/>
    public NumberVariable Size()
    {
        if (FirstSet(_launcher.Sizes) is { } name) return Number(name)!.Value;
        string why = _launcher.Sizes.Length == 0 ? $"{Name} does not tell the number of ranks" : $"{_launcher.Sizes[^1]} is not: {Name} sets both";
        throw new InvalidOperationException($"{_launcher.Rank} is set, but {why}. Set SWITCHYARD_WORLD_SIZE.");
    }

    /// <summary>Refuses a job that this launcher spread over several nodes: the ranks of a group share a machine's memory.</summary>
    /// <exception cref="InvalidOperationException">It did, or contradicts itself.</exception>
    public void RequireOneNode(NumberVariable size)
    {
        if (_launcher.LocalSize is { } name && Number(name) is { } here)
        {
            if (here.Value < 1 || here.Value > size.Value)
                throw new InvalidOperationException($"{here}, but {size}: a node holds 1 to {size.Value} of the job's ranks.");
            if (here.Value < size.Value) throw ManyNodes($"{here}, but {size}", size);
        }
        else if (FirstSet(_launcher.Nodes) is { } nodesName && Number(nodesName) is { Value: > 1 } nodes)
        {
            throw ManyNodes($"{nodes}", size);
        }
    }

    /// <summary>A name that the ranks of this job have in common, and no other job that runs at the same time; null where nothing tells.</summary>
    public string? JobName()
    {
        string[]? variables = Array.Find(_launcher.JobIds, names => names.Any(name => _variables(name) is not null));
        if (variables is not null) return NameOf(variables.Select(name => _variables(name) ?? ""));
        return _launcher.IsToldByItsProcess && LauncherProcess.IdOf(_launcher.Rank) is { } process ? NameOf([process]) : null;
    }

    private NumberVariable? Number(string name) => _variables(name) is { } text ? NumberVariable.Parse(name, text) : null;

    private string? FirstSet(IEnumerable<string> names) => names.FirstOrDefault(name => _variables(name) is not null);

    private InvalidOperationException ManyNodes(string evidence, NumberVariable size) => new(
        $"{evidence}: {Name} started this job on several nodes, and the ranks of a group are on one. Start all {size.Value} ranks on one node, or give "
        + "the ranks of each node a group of their own by SWITCHYARD_RANK and SWITCHYARD_WORLD_SIZE.");

    /// <summary>The ids themselves where they make a job's name, else their hash.</summary>
    private string NameOf(IEnumerable<string> ids)
    {
        string text = string.Join('-', ids);
        string plain = $"{_launcher.JobPrefix}-{text}";
        if (ExpertGroupOptions.IsJobName(plain)) return plain;
        return $"{_launcher.JobPrefix}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)).AsSpan(0, 16))}";
    }

    /// <summary>A launcher by the variables that it sets for each process. Of several names for one thing the first that is set counts.</summary>
    private sealed record Launcher(string Name, string JobPrefix, string Rank, string[] Sizes)
    {
        /// <summary>A variable without which the others do not mean that this process is a rank.</summary>
        public string? Mark { get; init; }

        /// <summary>The job's ranks on this node.</summary>
        public string? LocalSize { get; init; }

        /// <summary>The job's nodes; asked where the ranks on this node are not told.</summary>
        public string[] Nodes { get; init; } = [];

        /// <summary>What together identifies the job.</summary>
        public string[][] JobIds { get; init; } = [];

        /// <summary>Without an id, the process that started the ranks of this node identifies the job.</summary>
        public bool IsToldByItsProcess { get; init; }
    }
}

using Xunit;

namespace Switchyard.Tests;

/// <summary>Environments as launchers make them: what a group is told, and what is refused.</summary>
public sealed class LauncherEnvironmentTests
{
    private const string Torchrun = "RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 GROUP_RANK=0 MASTER_ADDR=localhost MASTER_PORT=29500 "
        + "TORCHELASTIC_RUN_ID=none TORCHELASTIC_RESTART_COUNT=0 TORCHELASTIC_MAX_RESTARTS=3";

    private const string OpenMpi4 = "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=2 OMPI_COMM_WORLD_LOCAL_SIZE=4 "
        + "OMPI_MCA_ess_base_jobid=926416897 OMPI_UNIVERSE_SIZE=2 PMIX_NAMESPACE=926416897 PMIX_RANK=2";

    private const string OpenMpi5 = "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_NAMESPACE=prterun-host-4711@1 PMIX_RANK=0";

    private const string SrunPmi2 = "PMI_RANK=3 PMI_SIZE=8 PMI_JOBID=1234.5 PMI_FD=11 SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=3 "
        + "SLURM_JOB_ID=1234 SLURM_STEP_ID=5 SLURM_NNODES=1 SLURM_STEP_NUM_NODES=1";

    private const string Srun = "SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_LOCALID=3 SLURM_JOB_ID=1234 SLURM_STEP_ID=5 SLURM_NNODES=1";

    [Theory]
    [InlineData(Torchrun, 1, 4, "torchrun-none-localhost-29500-0")]
    [InlineData("RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=1234", 0, 1, "torchrun--127.0.0.1-1234-")]
    [InlineData("RANK=0 WORLD_SIZE=2", 0, 2, "default")]
    [InlineData(OpenMpi4, 2, 4, "ompi-926416897")]
    [InlineData("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1 OMPI_MCA_ess_base_jobid=77", 0, 1, "ompi-77")]
    [InlineData(OpenMpi5, 0, 2, "ompi-ae1484af6114fcedd837289b816fd293")]
    [InlineData(SrunPmi2, 3, 8, "pmi-1234.5")]
    [InlineData(Srun, 3, 8, "slurm-1234-5")]
    [InlineData(Srun + " PMIX_RANK=3 PMIX_NAMESPACE=slurm.pmix.1234.5", 3, 8, "slurm-1234-5")]
    // A step of one node and 2 tasks within a job of 4 nodes and 8 tasks.
    [InlineData(Srun + " SLURM_NNODES=4 SLURM_STEP_NUM_NODES=1 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2", 1, 2, "slurm-1234-5")]
    [InlineData("PMIX_RANK=1 PMIX_NAMESPACE=prte.7 SWITCHYARD_WORLD_SIZE=2", 1, 2, "pmix-prte.7")]
    public void A_launcher_tells_rank_size_and_job(string environment, int rank, int size, string job)
    {
        ExpertGroupOptions options = Read(environment);
        Assert.Equal((rank, size, job), (options.Rank, options.Size, options.Job));
        options.Validate();
    }

    [Theory]
    // What runs inside another comes first.
    [InlineData(Srun + " " + OpenMpi4 + " " + Torchrun, 1, 4, "torchrun-none-localhost-29500-0")]
    [InlineData(Srun + " " + OpenMpi4, 2, 4, "ompi-926416897")]
    // Our own variables win, each by itself.
    [InlineData(OpenMpi4 + " SWITCHYARD_RANK=3", 3, 4, "ompi-926416897")]
    [InlineData(OpenMpi4 + " SWITCHYARD_WORLD_SIZE=3", 2, 3, "ompi-926416897")]
    [InlineData(OpenMpi4 + " SWITCHYARD_JOB=mine", 2, 4, "mine")]
    [InlineData(OpenMpi4 + " SWITCHYARD_RANK=0 SWITCHYARD_WORLD_SIZE=1 SWITCHYARD_JOB=mine", 0, 1, "mine")]
    // They are then not looked at: neither malformed nor spread over nodes.
    [InlineData("RANK=x WORLD_SIZE=-7 SWITCHYARD_RANK=0 SWITCHYARD_WORLD_SIZE=2 SWITCHYARD_JOB=mine", 0, 2, "mine")]
    [InlineData(Torchrun + " LOCAL_WORLD_SIZE=2 SWITCHYARD_RANK=0 SWITCHYARD_WORLD_SIZE=2 SWITCHYARD_JOB=node0", 0, 2, "node0")]
    // Empty means unset.
    [InlineData(OpenMpi4 + " RANK= WORLD_SIZE= SWITCHYARD_RANK= SWITCHYARD_JOB=", 2, 4, "ompi-926416897")]
    public void Which_comes_first(string environment, int rank, int size, string job)
    {
        ExpertGroupOptions options = Read(environment);
        Assert.Equal((rank, size, job), (options.Rank, options.Size, options.Job));
    }

    [Theory]
    [InlineData("RANK=4 WORLD_SIZE=4", "RANK is '4', but WORLD_SIZE is '4'")]
    [InlineData("RANK=0 WORLD_SIZE=0", "RANK is '0', but WORLD_SIZE is '0'")]
    [InlineData("SWITCHYARD_RANK=7 WORLD_SIZE=4", "SWITCHYARD_RANK is '7', but WORLD_SIZE is '4'", "RANK=0")]
    [InlineData("RANK=-1 WORLD_SIZE=4", "RANK is '-1', not a whole number of 0 or more")]
    [InlineData("RANK=one WORLD_SIZE=4", "RANK is 'one'")]
    [InlineData("RANK=1 WORLD_SIZE=4.0", "WORLD_SIZE is '4.0'")]
    [InlineData("RANK=1 WORLD_SIZE=99999999999", "WORLD_SIZE is '99999999999'")]
    [InlineData("SWITCHYARD_RANK=x SWITCHYARD_WORLD_SIZE=2", "SWITCHYARD_RANK is 'x'")]
    [InlineData("SWITCHYARD_RANK=0 SWITCHYARD_WORLD_SIZE=2 SWITCHYARD_JOIN_TIMEOUT=soon", "SWITCHYARD_JOIN_TIMEOUT is 'soon'")]
    [InlineData("RANK=1", "RANK is set, but WORLD_SIZE is not: torchrun sets both")]
    [InlineData("WORLD_SIZE=2", "WORLD_SIZE is set, but RANK is not: torchrun sets both")]
    [InlineData("OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_SIZE is set, but OMPI_COMM_WORLD_RANK is not")]
    [InlineData("PMI_RANK=0", "PMI_RANK is set, but PMI_SIZE is not")]
    [InlineData("PMIX_RANK=0", "PMIx does not tell the number of ranks. Set SWITCHYARD_WORLD_SIZE")]
    [InlineData("SLURM_STEP_ID=0 SLURM_PROCID=0", "SLURM_PROCID is set, but SLURM_NTASKS is not")]
    [InlineData("SWITCHYARD_RANK=0", "SWITCHYARD_WORLD_SIZE is not set")]
    [InlineData("", "SWITCHYARD_RANK is not set, and none of the launchers")]
    // A batch script has a process's variables, but is no rank.
    [InlineData("SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_ID=1234 SLURM_NNODES=1", "srun (SLURM_STEP_ID)")]
    [InlineData(Torchrun + " LOCAL_WORLD_SIZE=2", "LOCAL_WORLD_SIZE is '2', but WORLD_SIZE is '4': torchrun started this job on several nodes")]
    [InlineData(Torchrun + " LOCAL_WORLD_SIZE=8", "LOCAL_WORLD_SIZE is '8', but WORLD_SIZE is '4': a node holds 1 to 4")]
    [InlineData(Torchrun + " LOCAL_WORLD_SIZE=0", "LOCAL_WORLD_SIZE is '0'")]
    [InlineData(OpenMpi4 + " OMPI_COMM_WORLD_LOCAL_SIZE=1", "OMPI_COMM_WORLD_LOCAL_SIZE is '1', but OMPI_COMM_WORLD_SIZE is '4': Open MPI started this job on several nodes")]
    [InlineData("PMI_RANK=0 PMI_SIZE=4 MPI_LOCALNRANKS=2", "MPI_LOCALNRANKS is '2', but PMI_SIZE is '4'")]
    [InlineData(SrunPmi2 + " SLURM_STEP_NUM_NODES=2", "SLURM_STEP_NUM_NODES is '2': PMI started this job on several nodes")]
    [InlineData(Srun + " SLURM_NNODES=2", "SLURM_NNODES is '2': srun started this job on several nodes")]
    public void What_cannot_be_is_refused_by_name_and_value(string environment, string expected, string also = "")
    {
        var error = Assert.Throws<InvalidOperationException>(() => Read($"{environment} {also}"));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    // A restarted run, another port, another run, another step.
    [InlineData(Torchrun, "TORCHELASTIC_RESTART_COUNT=1")]
    [InlineData(Torchrun, "MASTER_PORT=29501")]
    [InlineData(Torchrun, "TORCHELASTIC_RUN_ID=8d0e5a3e-8c6d-4b0b-b0ad-111111111111")]
    [InlineData(OpenMpi4, "PMIX_NAMESPACE=926416898")]
    [InlineData(OpenMpi5, "PMIX_NAMESPACE=prterun-host-4712@1")]
    [InlineData(SrunPmi2, "PMI_JOBID=1234.6")]
    [InlineData(Srun, "SLURM_STEP_ID=6")]
    public void Other_jobs_have_other_names(string environment, string other)
    {
        string job = Read(environment).Job, otherJob = Read($"{environment} {other}").Job;
        Assert.NotEqual(job, otherJob);
        Assert.All([job, otherJob], name => Assert.True(ExpertGroupOptions.IsJobName(name), name));
    }

    [Fact]
    public void Where_no_id_is_given_the_launchers_process_tells()
    {
        // This process's own environment has no PMI_RANK, nor has its parent: that stands for the launcher.
        const string Hydra = "PMI_RANK=0 PMI_SIZE=2 MPI_LOCALNRANKS=2 MPI_LOCALRANKID=0 PMI_FD=6 HYDI_CONTROL_FD=7";
        string job = Read(Hydra).Job;
        Assert.Matches(@"^pmi-\d+-\d+$", job);
        Assert.Equal(job, Read(Hydra + " PMI_RANK=1").Job);
    }

    /// <summary>Of a variable that is named twice the last counts.</summary>
    private static ExpertGroupOptions Read(string environment)
    {
        var variables = new Dictionary<string, string>();
        foreach (string each in environment.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = each.Split('=', 2);
            variables[parts[0]] = parts[1];
        }
        return ExpertGroupOptions.FromEnvironment(variables.GetValueOrDefault);
    }
}

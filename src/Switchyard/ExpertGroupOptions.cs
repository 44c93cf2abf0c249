using Switchyard.Rendezvous.Network;

namespace Switchyard;

/// <summary>Who a process is in its group, and where the group meets. Validated when joining.</summary>
public sealed record ExpertGroupOptions
{
    private const string DefaultJob = "default";
    private static readonly TimeSpan _defaultJoinTimeout = TimeSpan.FromSeconds(60);

    /// <summary>This process's rank, 0 ≤ rank &lt; <see cref="Size"/>. Variable: <c>SWITCHYARD_RANK</c>, else the launcher's.</summary>
    public required int Rank { get; init; }

    /// <summary>The ranks in the group, at most <see cref="Limits.MaxRanks"/>. Variable: <c>SWITCHYARD_WORLD_SIZE</c>, else the launcher's.</summary>
    public required int Size { get; init; }

    /// <summary>
    /// The job's name: ranks of one user that give the same name meet. Letters, digits, '.', '-' and '_'; at most 64.
    /// Variable: <c>SWITCHYARD_JOB</c>; default: one made of the launcher's job id where another launcher tells that, else <c>default</c>.
    /// </summary>
    public string Job { get; init; } = DefaultJob;

    /// <summary>
    /// The folder in which the ranks of one machine meet: it holds the job's socket and, without <see cref="TokenFile"/>, its token.
    /// Made with mode 0700; one that others can enter or that belongs to another user is refused.
    /// Variable: <c>SWITCHYARD_DIRECTORY</c>, default <c>$XDG_RUNTIME_DIR/switchyard</c>, else <c>/tmp/switchyard-UID</c>.
    /// </summary>
    public string? Directory { get; init; }

    /// <summary>
    /// A file of mode 0600 with the job's 256-bit token in hexadecimal. Variable: <c>SWITCHYARD_TOKEN_FILE</c>.
    /// Without it rank 0 makes one in <see cref="Directory"/>.
    /// </summary>
    public string? TokenFile { get; init; }

    /// <summary>
    /// HOST:PORT at which rank 0 listens, and nowhere else, for the ranks of several machines; none by default, and then all ranks are on
    /// one. Needs a <see cref="TokenFile"/>, the same on all machines. The other ranks connect to it, and then to each other at ports that
    /// the system chooses. Variable: <c>SWITCHYARD_ADDRESS</c>.
    /// </summary>
    public string? Address { get; init; }

    /// <summary>
    /// The IP address of this machine at which ranks of other machines reach this rank. With <see cref="Address"/> the default is the
    /// address from which rank 0 is reached; without it, none. Variable: <c>SWITCHYARD_BIND_ADDRESS</c>.
    /// </summary>
    public string? BindAddress { get; init; }

    /// <summary>
    /// This rank's certificate, a PEM file, with which connections between machines are secured by TLS; without it they are not encrypted.
    /// All ranks have one or none has. Needs <see cref="TlsKeyFile"/> and <see cref="TlsAuthorityFile"/>.
    /// Variable: <c>SWITCHYARD_TLS_CERTIFICATE_FILE</c>.
    /// </summary>
    public string? TlsCertificateFile { get; init; }

    /// <summary>The certificate's private key, a PEM file that nobody else can read. Variable: <c>SWITCHYARD_TLS_KEY_FILE</c>.</summary>
    public string? TlsKeyFile { get; init; }

    /// <summary>
    /// The certificate, a PEM file, of the authority that the certificates of all ranks must be signed by. Whoever has one of its
    /// certificates counts, whatever name is in it: take an authority of the job's own. Variable: <c>SWITCHYARD_TLS_AUTHORITY_FILE</c>.
    /// </summary>
    public string? TlsAuthorityFile { get; init; }

    /// <summary>
    /// A folder in which a rank that fails because of another leaves a note that names it, for the launcher; none by default.
    /// Variable: <c>SWITCHYARD_FAULT_NOTES</c>.
    /// </summary>
    public string? FaultNotes { get; init; }

    /// <summary>
    /// Whether this process joins a group that runs already: it waits until the others offer its place with <see cref="ExpertGroup.GrowAsync"/>.
    /// <see cref="Size"/> is that of the larger group, <see cref="Rank"/> one of its last. Variable: <c>SWITCHYARD_NEWCOMER</c>, 1 or 0.
    /// </summary>
    public bool IsNewcomer { get; init; }

    /// <summary>How long to wait for the other ranks. Variable: <c>SWITCHYARD_JOIN_TIMEOUT</c> in whole seconds, default 60.</summary>
    public TimeSpan JoinTimeout { get; init; } = _defaultJoinTimeout;

    /// <summary>
    /// Reads the variables named on each property, as <c>switchyard launch</c> sets them. Rank, size and job that these leave open are those
    /// that torchrun, Open MPI, MPICH, Intel MPI, Slurm or PMIx gave this process (docs/launching.md).
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// Nothing tells the rank or the size, a value is malformed or contradicts another, or the launcher spread the job over several nodes; the
    /// message names variable and value.
    /// </exception>
    public static ExpertGroupOptions FromEnvironment() => FromEnvironment(Environment.GetEnvironmentVariable);

    internal static ExpertGroupOptions FromEnvironment(Func<string, string?> environment)
    {
        string? Text(string name) => environment(name) is { Length: > 0 } value ? value : null;
        NumberVariable? Number(string name) => Text(name) is { } text ? NumberVariable.Parse(name, text) : null;

        var launcher = LauncherEnvironment.Find(Text);
        NumberVariable? ownRank = Number("SWITCHYARD_RANK"), ownSize = Number("SWITCHYARD_WORLD_SIZE");
        NumberVariable rank = ownRank ?? launcher?.Rank() ?? throw NotStarted("SWITCHYARD_RANK");
        NumberVariable size = ownSize ?? launcher?.Size() ?? throw NotStarted("SWITCHYARD_WORLD_SIZE");
        if (ownSize is null && Text("SWITCHYARD_ADDRESS") is null) launcher!.RequireOneNode(size);
        if (rank.Value >= size.Value) throw new InvalidOperationException($"{rank}, but {size}: a rank is below the number of ranks.");

        return new ExpertGroupOptions
        {
            Rank = rank.Value,
            Size = size.Value,
            Job = Text("SWITCHYARD_JOB") ?? launcher?.JobName() ?? DefaultJob,
            Directory = Text("SWITCHYARD_DIRECTORY"),
            TokenFile = Text("SWITCHYARD_TOKEN_FILE"),
            FaultNotes = Text("SWITCHYARD_FAULT_NOTES"),
            IsNewcomer = Number("SWITCHYARD_NEWCOMER") is { Value: not 0 },
            Address = Text("SWITCHYARD_ADDRESS"),
            BindAddress = Text("SWITCHYARD_BIND_ADDRESS"),
            TlsCertificateFile = Text("SWITCHYARD_TLS_CERTIFICATE_FILE"),
            TlsKeyFile = Text("SWITCHYARD_TLS_KEY_FILE"),
            TlsAuthorityFile = Text("SWITCHYARD_TLS_AUTHORITY_FILE"),
            JoinTimeout = Number("SWITCHYARD_JOIN_TIMEOUT") is { } seconds ? TimeSpan.FromSeconds(seconds.Value) : _defaultJoinTimeout,
        };
    }

    internal void Validate()
    {
        if (Size is < 1 or > Limits.MaxRanks)
            throw new ArgumentOutOfRangeException(nameof(Size), Size, $"Size (SWITCHYARD_WORLD_SIZE) must be 1 to {Limits.MaxRanks} ranks.");
        if (Rank < 0 || Rank >= Size)
            throw new ArgumentOutOfRangeException(nameof(Rank), Rank, $"Rank (SWITCHYARD_RANK) must be 0 to {Size - 1} in a group of Size {Size}.");
        if (IsNewcomer && Rank == 0)
            throw new ArgumentException("IsNewcomer (SWITCHYARD_NEWCOMER): rank 0 is always one of those who are there.", nameof(IsNewcomer));
        if (IsNewcomer && Address is not null)
        {
            throw new ArgumentException(
                "IsNewcomer (SWITCHYARD_NEWCOMER) and Address (SWITCHYARD_ADDRESS) exclude each other: groups grow on one machine, where they meet in Directory.",
                nameof(IsNewcomer));
        }
        if (!IsJobName(Job))
            throw new ArgumentException($"Job '{Job}' (SWITCHYARD_JOB) must be 1 to 64 letters, digits, '.', '-' or '_'.", nameof(Job));
        if (JoinTimeout <= TimeSpan.Zero || JoinTimeout > TimeSpan.FromDays(1))
            throw new ArgumentOutOfRangeException(nameof(JoinTimeout), JoinTimeout, "JoinTimeout (SWITCHYARD_JOIN_TIMEOUT) must be positive and at most a day.");
        ValidateNetwork();
    }

    private void ValidateNetwork()
    {
        if (Address is not null && NetworkAddress.Parse(Address) is null)
        {
            throw new ArgumentException(
                $"Address '{Address}' (SWITCHYARD_ADDRESS) must be HOST:PORT or [IPv6]:PORT, with a port of 1 to 65535, and be rank 0's alone.",
                nameof(Address));
        }
        if (Address is not null && TokenFile is null)
        {
            throw new ArgumentException(
                "Address (SWITCHYARD_ADDRESS) needs TokenFile (SWITCHYARD_TOKEN_FILE): the machines share no folder in which rank 0 could leave a "
                + "token. Give all ranks a copy of one made by 'openssl rand -hex 32', with mode 0600.", nameof(TokenFile));
        }
        if (BindAddress is not null && !NetworkAddress.IsBind(BindAddress))
            throw new ArgumentException($"BindAddress '{BindAddress}' (SWITCHYARD_BIND_ADDRESS) must be an IP address of this machine.", nameof(BindAddress));
        int given = new[] { TlsCertificateFile, TlsKeyFile, TlsAuthorityFile }.Count(file => file is not null);
        if (given is 1 or 2)
        {
            throw new ArgumentException(
                "TlsCertificateFile, TlsKeyFile and TlsAuthorityFile (SWITCHYARD_TLS_CERTIFICATE_FILE, _KEY_FILE, _AUTHORITY_FILE) go together: "
                + "give all three or none.", nameof(TlsCertificateFile));
        }
    }

    internal static bool IsJobName(string name) =>
        name.Length is >= 1 and <= 64 && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_');

    private static InvalidOperationException NotStarted(string variable) => new(
        $"{variable} is not set, and none of the launchers that are known started this process: {LauncherEnvironment.Known}. "
        + "Start the ranks with 'switchyard launch' or one of these, or set it for each process.");
}

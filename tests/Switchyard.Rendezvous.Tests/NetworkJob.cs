using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Switchyard.Rendezvous.Network;

namespace Switchyard.Rendezvous.Tests;

/// <summary>A job whose ranks meet at an address of this machine, each pretending to be on a machine that the test says.</summary>
internal sealed class NetworkJob : IDisposable
{
    private static int _lastPort = 20_000 + (Environment.ProcessId % 10_000); // below those that the system gives away
    private readonly TestJob _job = new();

    public NetworkJob(IPEndPoint? end = null)
    {
        End = end ?? NextFree();
        TokenPath = Path.Combine(_job.Directory, "token");
        JobToken.Create(TokenPath);
    }

    public IPEndPoint End { get; }

    public string TokenPath { get; }

    public string Directory => _job.Directory;

    public ExpertGroupOptions Options(int rank, int size, double timeoutSeconds = 10) => new()
    {
        Rank = rank,
        Size = size,
        Job = "job",
        Address = End.ToString(),
        TokenFile = TokenPath,
        JoinTimeout = TimeSpan.FromSeconds(timeoutSeconds),
    };

    public Task<ExpertGroup> JoinAsync(int rank, int size, int machine = 0, double timeoutSeconds = 10) =>
        JoinAsync(Options(rank, size, timeoutSeconds), machine);

    public static async Task<ExpertGroup> JoinAsync(ExpertGroupOptions options, int machine = 0, CancellationToken ct = default)
    {
        options.Validate();
        (Membership membership, IDisposable? server) = await NetworkJoin.RunAsync(options, Hub.TestMachine(machine), ct);
        return new ExpertGroup(new ControlChannel(options, membership, server));
    }

    public Task<ExpertGroup[]> JoinAllAsync(int size, Func<int, int> machineOf, Func<ExpertGroupOptions, ExpertGroupOptions>? change = null) =>
        Task.WhenAll(Enumerable.Range(0, size).Select(rank =>
        {
            ExpertGroupOptions options = Options(rank, size);
            return JoinAsync(change?.Invoke(options) ?? options, machineOf(rank));
        }));

    /// <summary>Waits until rank 0 listens.</summary>
    public async Task ListeningAsync()
    {
        for (int i = 0; i < 500; i++)
        {
            try
            {
                using var probe = new TcpClient();
                await probe.ConnectAsync(End);
                return;
            }
            catch (SocketException)
            {
                await Task.Delay(5);
            }
        }
    }

    /// <summary>Writes a new authority and a certificate of it, and returns the options that name them.</summary>
    public Func<ExpertGroupOptions, ExpertGroupOptions> NewTls(string name)
    {
        using var authorityKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name} authority", authorityKey, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        DateTimeOffset now = DateTimeOffset.UtcNow;
        using X509Certificate2 authority = request.CreateSelfSigned(now.AddDays(-1), now.AddDays(1));
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using X509Certificate2 certificate = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256)
            .Create(authority, now.AddHours(-1), now.AddHours(1), RandomNumberGenerator.GetBytes(8));
        string Write(string kind, string pem)
        {
            string path = Path.Combine(Directory, $"{name}.{kind}");
            using FileStream file = new(path, new FileStreamOptions
            {
                Mode = FileMode.Create,
                Access = FileAccess.Write,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
            file.Write(System.Text.Encoding.ASCII.GetBytes(pem));
            return path;
        }
        string[] files = [Write("crt", certificate.ExportCertificatePem()), Write("key", key.ExportPkcs8PrivateKeyPem()), Write("ca", authority.ExportCertificatePem())];
        return options => options with { TlsCertificateFile = files[0], TlsKeyFile = files[1], TlsAuthorityFile = files[2] };
    }

    public void Dispose() => _job.Dispose();

    private static IPEndPoint NextFree()
    {
        while (true)
        {
            var end = new IPEndPoint(IPAddress.Loopback, ++_lastPort);
            try
            {
                using var probe = new TcpListener(end);
                probe.Start();
                return end;
            }
            catch (SocketException)
            {
                // Taken: the next, then.
            }
        }
    }
}

using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.Win32.SafeHandles;

namespace Switchyard.Rendezvous.Network;

/// <summary>
/// This rank's certificate and the authority that all ranks' certificates must be of. Both sides show one. Names in them are not
/// checked: the authority is the job's own, and the proof of the token follows inside.
/// </summary>
internal sealed class TlsIdentity
{
    private const string Options = "TlsCertificateFile, TlsKeyFile and TlsAuthorityFile";
    private const SslProtocols Protocols = SslProtocols.Tls12 | SslProtocols.Tls13;
    private readonly X509Certificate2 _certificate;
    private readonly X509Certificate2Collection _authorities;

    private TlsIdentity(X509Certificate2 certificate, X509Certificate2Collection authorities)
    {
        _certificate = certificate;
        _authorities = authorities;
    }

    /// <summary>Null where the options name no certificate.</summary>
    public static TlsIdentity? Load(ExpertGroupOptions options)
    {
        if (options.TlsCertificateFile is not { } certificate) return null;
        var authorities = new X509Certificate2Collection();
        try
        {
            RequirePrivate(options.TlsKeyFile!);
            authorities.ImportFromPemFile(options.TlsAuthorityFile!);
            if (authorities.Count == 0) throw new JoinException($"'{options.TlsAuthorityFile}' (TlsAuthorityFile) holds no certificate in PEM form.");
            return new TlsIdentity(X509Certificate2.CreateFromPemFile(certificate, options.TlsKeyFile), authorities);
        }
        catch (Exception e) when (e is CryptographicException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new JoinException($"The files of {Options} cannot be used ('{certificate}', '{options.TlsKeyFile}', "
                + $"'{options.TlsAuthorityFile}'): {e.Message} They hold PEM: certificate, its private key, the authority's certificate.", e);
        }
    }

    /// <summary>Secures a connection that came here. Whether the other side may come in is for the caller to act on.</summary>
    public async Task<(SslStream Stream, bool IsOfAuthority)> AsServerAsync(Stream stream, CancellationToken ct)
    {
        bool isOfAuthority = false;
        var secured = new SslStream(stream);
        try
        {
            await secured.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
            {
                ServerCertificate = _certificate,
                ClientCertificateRequired = true,
                EnabledSslProtocols = Protocols,
                CertificateChainPolicy = NewPolicy(),
#pragma warning disable CA5359 // The caller turns away who is not of the authority, and can tell it so.
                RemoteCertificateValidationCallback = (sender, certificate, chain, errors) =>
                {
                    isOfAuthority = IsOfAuthority(sender, certificate, chain, errors);
                    return true;
                },
#pragma warning restore CA5359
            }, ct).ConfigureAwait(false);
            return (secured, isOfAuthority);
        }
        catch
        {
            await secured.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public async Task<Stream> AsClientAsync(Stream stream, IPEndPoint end, CancellationToken ct)
    {
        var secured = new SslStream(stream);
        try
        {
            await secured.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                TargetHost = end.Address.ToString(),
                ClientCertificates = [_certificate],
                EnabledSslProtocols = Protocols,
                CertificateChainPolicy = NewPolicy(),
                RemoteCertificateValidationCallback = IsOfAuthority,
            }, ct).ConfigureAwait(false);
            return secured;
        }
        catch (Exception e)
        {
            await secured.DisposeAsync().ConfigureAwait(false);
            if (e is AuthenticationException)
            {
                throw new JoinException($"The TLS handshake with {end} failed: {e.Message} "
                    + $"Give all ranks certificates of the same authority ({Options}), or none.", e);
            }
            throw;
        }
    }

    private static bool IsOfAuthority(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors) =>
        (errors & ~SslPolicyErrors.RemoteCertificateNameMismatch) == SslPolicyErrors.None;

    private X509ChainPolicy NewPolicy()
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };
        policy.CustomTrustStore.AddRange(_authorities);
        return policy;
    }

    private static void RequirePrivate(string keyFile)
    {
        using SafeFileHandle file = File.OpenHandle(keyFile);
        FileStatus status = FileStatus.Of(file);
        if (!status.IsPrivate)
            throw new JoinException($"The private key '{keyFile}' (TlsKeyFile) can be read by others (mode {status.Permissions}): chmod 600 it.");
    }
}

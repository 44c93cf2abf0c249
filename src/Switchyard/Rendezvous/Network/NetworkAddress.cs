using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Switchyard.Rendezvous.Network;

/// <summary>Where rank 0 listens for the ranks of all machines: a host's name or address, and a port.</summary>
internal sealed record NetworkAddress(string Host, int Port)
{
    /// <summary>Reads HOST:PORT or [IPv6]:PORT; null where it is neither.</summary>
    public static NetworkAddress? Parse(string text)
    {
        int colon = text.LastIndexOf(':');
        if (colon <= 0) return null;
        string host = text[..colon];
        bool isBracketed = host.StartsWith('[') && host.EndsWith(']');
        if (isBracketed) host = host[1..^1];
        if (host.Length == 0 || (!isBracketed && host.Contains(':', StringComparison.Ordinal))) return null;
        bool isPort = int.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int port) && port is > 0 and <= 65535;
        return isPort && !IsAnywhere(host) ? new NetworkAddress(host, port) : null;
    }

    /// <summary>The address of a machine's own; null for none. What <see cref="IsBind"/> has refused does not come here.</summary>
    public static IPAddress? ParseBind(string? text) => text is null ? null : IPAddress.Parse(text);

    public static bool IsBind(string text) => IPAddress.TryParse(text, out _) && !IsAnywhere(text);

    /// <exception cref="SocketException">No such host.</exception>
    public async Task<IPEndPoint> ResolveAsync(CancellationToken ct)
    {
        if (IPAddress.TryParse(Host, out IPAddress? address)) return new IPEndPoint(address, Port);
        IPAddress[] all = await Dns.GetHostAddressesAsync(Host, ct).ConfigureAwait(false);
        return new IPEndPoint(all.FirstOrDefault() ?? throw new SocketException((int)SocketError.HostNotFound), Port);
    }

    public override string ToString() => Host.Contains(':', StringComparison.Ordinal) ? $"[{Host}]:{Port}" : $"{Host}:{Port}";

    /// <summary>An address that stands for all of a machine's is none at which others could reach it.</summary>
    private static bool IsAnywhere(string host) =>
        IPAddress.TryParse(host, out IPAddress? address) && (address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any));
}

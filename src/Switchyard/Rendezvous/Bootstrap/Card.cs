using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>What a rank tells all others of itself before anyone connects: who it is, on which machine, and where to knock.</summary>
/// <param name="Hello">Who it is, as in any handshake.</param>
/// <param name="Machine">The same where ranks can map each other's memory and see each other's processes.</param>
/// <param name="Door">Names its socket in the machine's abstract namespace.</param>
/// <param name="Address">Where ranks of other machines knock; null where they cannot.</param>
internal sealed record Card(Hello Hello, byte[] Machine, byte[] Door, IPEndPoint? Address)
{
    public const int Bytes = 272;
    public const int DoorBytes = 16;
    private const int MachineAt = Hello.Bytes;
    private const int DoorAt = MachineAt + MachineIdentity.Bytes;
    private const int AddressAt = DoorAt + DoorBytes;

    /// <summary>The socket's name: abstract, so that no file is left behind whatever happens.</summary>
    public string DoorName => $"\0switchyard-{Convert.ToHexStringLower(Door)}";

    public byte[] ToFrame()
    {
        var frame = new byte[Bytes];
        Hello.ToFrame(RandomNumberGenerator.GetBytes(JoinFrames.NonceBytes)).CopyTo(frame, 0);
        Machine.CopyTo(frame, MachineAt);
        Door.CopyTo(frame, DoorAt);
        if (Address is null) return frame;
        byte[] address = Address.Address.GetAddressBytes();
        frame[AddressAt] = (byte)(address.Length == 4 ? 4 : 6);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(AddressAt + 2), (ushort)Address.Port);
        address.CopyTo(frame, AddressAt + 8);
        return frame;
    }

    /// <summary>Reads a frame of this version; null where it is none.</summary>
    public static Card? Parse(ReadOnlySpan<byte> frame)
    {
        if (frame.Length != Bytes || !IsHello(frame)) return null;
        ReadOnlySpan<byte> address = frame[AddressAt..];
        if (address[0] is not (0 or 4 or 6)) return null;
        IPEndPoint? end = address[0] == 0
            ? null
            : new IPEndPoint(new IPAddress(address.Slice(8, address[0] == 4 ? 4 : 16)), BinaryPrimitives.ReadUInt16LittleEndian(address[2..]));
        return new Card(Hello.Parse(frame), frame[MachineAt..DoorAt].ToArray(), frame[DoorAt..AddressAt].ToArray(), end);
    }

    /// <summary>The version that a card of any version is of; null where it is none.</summary>
    public static int? VersionOf(ReadOnlySpan<byte> frame) =>
        frame.Length >= Hello.Bytes && IsHello(frame) ? Hello.Parse(frame).Version : null;

    private static bool IsHello(ReadOnlySpan<byte> frame) => JoinFrames.Is(frame[..Hello.Bytes], JoinFrame.Hello, Hello.Bytes);
}

/// <summary>What tells machines apart.</summary>
internal static class MachineIdentity
{
    public const int Bytes = SHA256.HashSizeInBytes;

    /// <summary>
    /// This boot of this kernel, and the namespaces in which this process sees sockets and other processes: containers of one machine
    /// that do not share them are as good as machines of their own.
    /// </summary>
    public static byte[] Own()
    {
        string boot = File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();
        string network = new FileInfo("/proc/self/ns/net").LinkTarget ?? "";
        string processes = new FileInfo("/proc/self/ns/pid").LinkTarget ?? "";
        return SHA256.HashData(System.Text.Encoding.UTF8.GetBytes($"{boot} {network} {processes}"));
    }
}

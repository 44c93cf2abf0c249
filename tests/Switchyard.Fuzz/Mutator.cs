using System.Buffers.Binary;

namespace Switchyard.Fuzz;

/// <summary>Changes an input a little, at random.</summary>
internal sealed class Mutator(Random random)
{
    private const int MaxBytes = 4096;

    private static readonly ulong[] _telling =
    [
        0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 47, 48, 63, 64, 127, 128, 255, 256, 4095, 4096, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 1 << 20, (1 << 24) - 1,
        1 << 24, 0x1000_0000, 0x1000_0001, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000, 1UL << 39, 1UL << 40, long.MaxValue,
        1UL << 63, ulong.MaxValue - 1, ulong.MaxValue,
    ];

    public byte[] Mutate(byte[] input, IReadOnlyList<byte[]> others)
    {
        List<byte> bytes = [.. input];
        for (int i = 1 << random.Next(4); i > 0; i--) Step(bytes, others);
        return [.. bytes.Take(MaxBytes)];
    }

    private void Step(List<byte> bytes, IReadOnlyList<byte[]> others)
    {
        int at = random.Next(bytes.Count + 1);
        int length = Math.Min(bytes.Count - at, 1 << random.Next(7));
        switch (random.Next(9))
        {
            case 0 when at < bytes.Count: bytes[at] ^= (byte)(1 << random.Next(8)); break;
            case 1 when at < bytes.Count: bytes[at] = (byte)random.Next(256); break;
            case 2 when at < bytes.Count: bytes[at] += (byte)random.Next(-8, 9); break;
            case 3 or 4: Overwrite(bytes, at, _telling[random.Next(_telling.Length)]); break;
            case 5: bytes.RemoveRange(at, length); break;
            case 6: bytes.InsertRange(random.Next(bytes.Count + 1), bytes.GetRange(at, length)); break;
            case 7: bytes.InsertRange(at, new byte[1 << random.Next(5)]); break;
            case 8 when others.Count > 0: Splice(bytes, at, others[random.Next(others.Count)]); break;
        }
    }

    private void Overwrite(List<byte> bytes, int at, ulong value)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(word, value);
        int length = Math.Min(1 << random.Next(4), bytes.Count - at);
        for (int i = 0; i < length; i++) bytes[at + i] = word[i];
    }

    private void Splice(List<byte> bytes, int at, byte[] other)
    {
        int from = random.Next(other.Length + 1);
        bytes.RemoveRange(at, bytes.Count - at);
        bytes.AddRange(other.AsSpan(from));
    }
}

using System.Buffers.Binary;
using System.Text;

namespace Switchyard.Fuzz;

/// <summary>Takes an input apart; behind its end it reads zeros.</summary>
internal ref struct InputReader(ReadOnlySpan<byte> input)
{
    private ReadOnlySpan<byte> _rest = input;

    public readonly bool IsAtEnd => _rest.IsEmpty;

    public readonly ReadOnlySpan<byte> Rest => _rest;

    public byte Byte() => Bytes(1)[0];

    public int UInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Bytes(2));

    public uint UInt32() => BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4));

    public ulong UInt64() => BinaryPrimitives.ReadUInt64LittleEndian(Bytes(8));

    public byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        int there = Math.Min(count, _rest.Length);
        _rest[..there].CopyTo(bytes);
        _rest = _rest[there..];
        return bytes;
    }

    /// <summary>A text of up to 255 bytes that says its own length.</summary>
    public string Text() => Encoding.UTF8.GetString(Bytes(Byte()));
}

/// <summary>Puts an input together.</summary>
internal sealed class InputWriter
{
    private readonly List<byte> _bytes = [];

    public InputWriter Byte(int value)
    {
        _bytes.Add((byte)value);
        return this;
    }

    public InputWriter UInt16(int value) => Byte(value).Byte(value >> 8);

    public InputWriter UInt32(uint value) => UInt16((int)(value & 0xFFFF)).UInt16((int)(value >> 16));

    public InputWriter UInt64(ulong value) => UInt32((uint)value).UInt32((uint)(value >> 32));

    public InputWriter Bytes(ReadOnlySpan<byte> bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public InputWriter Text(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        return Byte(bytes.Length).Bytes(bytes);
    }

    public byte[] ToArray() => [.. _bytes];
}

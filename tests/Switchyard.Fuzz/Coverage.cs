using System.Numerics;
using System.Runtime.InteropServices;
using SharpFuzz.Common;

namespace Switchyard.Fuzz;

/// <summary>
/// Which branches a run took and how often, counted by the instrumentation of SharpFuzz in a map of 64 KiB; counts are told apart by their
/// power of two.
/// </summary>
internal static unsafe class Coverage
{
    private const int MapBytes = 1 << 16;
    private static readonly byte* _map = (byte*)NativeMemory.AllocZeroed(MapBytes);
    private static readonly byte[] _seen = new byte[MapBytes];

    /// <summary>What a fuzzer's own thread runs beside the code under test: it would count at random.</summary>
    private static readonly string[] _helpers = ["Switchyard.Interop.", "Switchyard.Rendezvous.PacketSocket", "Switchyard.Rendezvous.PollSet"];

    /// <summary>Branches that some run has taken.</summary>
    public static int Branches => _seen.Count(each => each != 0);

    public static void Instrument(string folder)
    {
        foreach (string assembly in new[] { "Switchyard", "Switchyard.Cpu", "Switchyard.Cli" })
        {
            SharpFuzz.Fuzzer.Instrument(
                Path.Combine(folder, assembly + ".dll"),
                type => !Array.Exists(_helpers, helper => type.StartsWith(helper, StringComparison.Ordinal)),
                SharpFuzz.Options.Value);
        }
    }

    public static void Begin()
    {
        new Span<byte>(_map, MapBytes).Clear();
        Trace.SharedMem = _map;
        Trace.PrevLocation = 0;
    }

    /// <summary>Whether the run since <see cref="Begin"/> took a branch, or took one so often, for the first time.</summary>
    public static bool End()
    {
        bool isNew = false;
        for (int at = 0; at < MapBytes; at += sizeof(ulong))
        {
            if (*(ulong*)(_map + at) == 0) continue;
            for (int i = at; i < at + sizeof(ulong); i++)
            {
                if (_map[i] == 0) continue;
                byte bucket = (byte)(1 << BitOperations.Log2(_map[i]));
                if ((_seen[i] & bucket) != 0) continue;
                _seen[i] |= bucket;
                isNew = true;
            }
        }
        return isNew;
    }

    public static void Forget() => Array.Clear(_seen);
}

using System.Runtime.Intrinsics;

namespace Switchyard.Cpu.Vectors;

/// <summary>The width, in bits, of the vectors a loop runs with. Results never depend on it.</summary>
internal enum VectorWidth
{
    /// <summary>What every x64 processor has (SSE).</summary>
    Portable = 128,

    /// <summary>AVX2.</summary>
    Bits256 = 256,

    /// <summary>AVX-512.</summary>
    Bits512 = 512,
}

/// <summary>A loop that is compiled for each width.</summary>
internal interface ILaneLoop
{
    void Run<TLanes>()
        where TLanes : struct, ILanes<TLanes>;
}

/// <summary>Chooses the width, in this one place.</summary>
internal static class VectorWidths
{
    /// <summary>The widest that this processor runs without emulation.</summary>
    public static VectorWidth Best =>
        Vector512.IsHardwareAccelerated ? VectorWidth.Bits512 :
        Vector256.IsHardwareAccelerated ? VectorWidth.Bits256 : VectorWidth.Portable;

    /// <summary>Runs the loop with vectors of this width, emulated if need be.</summary>
    public static void Run<TLoop>(this VectorWidth width, scoped in TLoop loop)
        where TLoop : ILaneLoop, allows ref struct
    {
        switch (width)
        {
            case VectorWidth.Bits512: loop.Run<Lanes512>(); break;
            case VectorWidth.Bits256: loop.Run<Lanes256>(); break;
            default: loop.Run<Lanes128>(); break;
        }
    }
}

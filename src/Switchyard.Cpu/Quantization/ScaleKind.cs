namespace Switchyard.Cpu.Quantization;

/// <summary>Which numbers may be scales.</summary>
public enum ScaleKind : byte
{
    /// <summary>Any <see cref="float"/>: the greatest magnitude of the group becomes <see cref="Float8E4M3.MaxValue"/>.</summary>
    Single = 0,

    /// <summary>Powers of two, the least that leaves no magnitude of the group above <see cref="Float8E4M3.MaxValue"/>.</summary>
    PowerOfTwo = 1,
}

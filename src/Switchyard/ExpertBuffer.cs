namespace Switchyard;
/// <summary>x</summary>
public sealed class ExpertBuffer
{
    /// <summary>x</summary>
    public static Task<ExpertBuffer> CreateAsync() => throw new NotSupportedException();
}

using Switchyard.Transports;

namespace Switchyard;

/// <summary>
/// Where arenas live and what moves rows through them. Handed to a buffer by <see cref="ExpertBufferOptions.Backend"/>;
/// each backend's assembly has one instance, such as <c>CpuBackend.Instance</c>.
/// </summary>
public abstract class ExpertBackend
{
    internal ExpertBackend(string name) => Name = name;

    /// <summary>The backend's name, as all ranks must give it.</summary>
    public string Name { get; }

    /// <summary>The device in whose memory arenas lie; -1 for the host's.</summary>
    internal virtual int Device => -1;

    internal abstract IScaleUpTransport ScaleUp { get; }
}

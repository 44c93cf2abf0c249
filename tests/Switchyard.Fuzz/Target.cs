using Switchyard.Fuzz.Targets;

namespace Switchyard.Fuzz;

/// <summary>One way by which bytes come from outside the process, and what must hold whatever they are.</summary>
internal abstract class Target : IDisposable
{
    public static IReadOnlyList<Type> All { get; } =
        [.. typeof(Target).Assembly.GetTypes().Where(type => type.IsSubclassOf(typeof(Target)) && !type.IsAbstract).OrderBy(type => type.Name, StringComparer.Ordinal)];

    public string Name => NameOf(GetType());

    public static string NameOf(Type type) => type.Name[..^nameof(Target).Length];

    public static Target Make(string name) =>
        (Target)Activator.CreateInstance(All.FirstOrDefault(type => NameOf(type) == name) ?? throw new ArgumentException($"There is no target '{name}'."))!;

    /// <summary>Inputs as a genuine peer sends them, to begin with.</summary>
    public abstract IEnumerable<byte[]> Seeds();

    /// <summary>Throws where the property does not hold.</summary>
    public abstract void Run(byte[] input);

    public void Dispose() => Close();

    protected virtual void Close()
    {
    }

    protected static void Require(bool holds, string property)
    {
        if (!holds) throw new InvalidOperationException($"does not hold: {property}");
    }
}

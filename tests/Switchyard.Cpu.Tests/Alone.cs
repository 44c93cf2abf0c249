using Xunit;

namespace Switchyard.Cpu.Tests;

/// <summary>Tests that take the machine's cores on purpose, or that time others' progress: one at a time.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

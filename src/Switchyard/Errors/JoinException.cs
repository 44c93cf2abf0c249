namespace Switchyard;

/// <summary>A rank could not join its group: refused (wrong token, size, version or generation, a rank that is taken), or nobody answered in time.</summary>
/// <param name="message">Why, with the values and the option or variable to change.</param>
/// <param name="inner">The cause, where there is one.</param>
public sealed class JoinException(string message, Exception? inner = null) : SwitchyardException(message, Recovery.Rebuild, inner);

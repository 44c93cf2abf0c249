namespace Switchyard.Planning;

/// <summary>Tells whether a token has chosen an expert before, without clearing anything from token to token.</summary>
internal sealed class ExpertMarks(int experts)
{
    private readonly int[] _tokenOf = new int[experts];
    private int _token;

    /// <summary>Begins a token.</summary>
    /// <param name="mark">What stands at the experts it has chosen, once the caller has written it there.</param>
    /// <returns>An element an expert.</returns>
    public Span<int> BeginToken(out int mark)
    {
        if (++_token <= 0)
        {
            Array.Clear(_tokenOf);
            _token = 1;
        }
        mark = _token;
        return _tokenOf;
    }
}

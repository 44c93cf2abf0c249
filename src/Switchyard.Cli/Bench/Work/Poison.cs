namespace Switchyard.Cli.Bench.Work;

/// <summary>Fills memory with what no rank sends and no sum gives: any of it that is left shows.</summary>
internal static class Poison
{
    public const byte Value = 0xA5;

    public static void Fill(TensorView view)
    {
        for (nint row = 0; row < view.Rows; row++)
            RowElement.RowOf(view, row).Fill(Value);
    }
}

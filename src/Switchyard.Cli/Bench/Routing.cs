using System.Globalization;

namespace Switchyard.Cli.Bench;

/// <summary>A law by which tokens choose experts.</summary>
internal abstract class Routing
{
    public const string Choices = "uniform, zipf:S, one-hot or file:F";

    private const string ZipfPrefix = "zipf:";
    private const string FilePrefix = "file:";

    /// <summary>The law of a name, for tokens that choose <paramref name="topK"/> of <paramref name="experts"/>.</summary>
    /// <exception cref="UsageException">There is no such law, or its file is not one.</exception>
    public static Routing Named(string name, int experts, int topK)
    {
        if (name == "uniform")
            return new WeightedRouting(new double[experts], topK);
        if (name == "one-hot")
            return new OneHotRouting();
        if (name.StartsWith(ZipfPrefix, StringComparison.Ordinal))
            return WeightedRouting.Zipf(Exponent(name), experts, topK);
        if (name.StartsWith(FilePrefix, StringComparison.Ordinal))
            return FileRouting.Read(name[FilePrefix.Length..], experts, topK);
        throw new UsageException($"--routing is '{name}': choose {Choices}.");
    }

    /// <summary>The same law by a name that holds in any folder.</summary>
    public static string FullName(string name) => name.StartsWith(FilePrefix, StringComparison.Ordinal) && name.Length > FilePrefix.Length
        ? FilePrefix + Path.GetFullPath(name[FilePrefix.Length..])
        : name;

    /// <summary>Chooses for one token; all its experts differ.</summary>
    /// <param name="random">The token's own.</param>
    /// <param name="index">The token's place among the tokens of all ranks, in order of rank.</param>
    /// <param name="choices">Receives top-k experts, or -1 for none.</param>
    public abstract void Choose(ref SplitMix random, long index, Span<int> choices);

    private static double Exponent(string name) =>
        double.TryParse(name.AsSpan(ZipfPrefix.Length), CultureInfo.InvariantCulture, out double exponent) && exponent is >= 0 and <= 10
            ? exponent
            : throw new UsageException($"--routing is '{name}': the exponent must be a number from 0 to 10, as in zipf:1.0.");
}

/// <summary>
/// Draws without replacement, with a weight an expert: the experts of the top-k smallest e / weight, each e exponentially distributed
/// (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
/// </summary>
/// <param name="logWeights">By expert.</param>
/// <param name="topK">How many a token chooses.</param>
internal sealed class WeightedRouting(double[] logWeights, int topK) : Routing
{
    private readonly double[] _keys = new double[topK];

    /// <summary>Expert i weighs 1 / (i + 1)^exponent.</summary>
    public static WeightedRouting Zipf(double exponent, int experts, int topK) =>
        new([.. Enumerable.Range(1, experts).Select(place => -exponent * Math.Log(place))], topK);

    public override void Choose(ref SplitMix random, long index, Span<int> choices)
    {
        Array.Fill(_keys, double.PositiveInfinity);
        for (int expert = 0; expert < logWeights.Length; expert++)
        {
            // In logarithms, so that no weight vanishes.
            double key = Math.Log(-Math.Log(random.NextDouble())) - logWeights[expert];
            int place = choices.Length;
            for (; place > 0 && key < _keys[place - 1]; place--)
            {
                if (place == choices.Length) continue;
                _keys[place] = _keys[place - 1];
                choices[place] = choices[place - 1];
            }
            if (place == choices.Length) continue;
            _keys[place] = key;
            choices[place] = expert;
        }
    }
}

/// <summary>Every token chooses the first experts: as uneven as can be.</summary>
internal sealed class OneHotRouting : Routing
{
    public override void Choose(ref SplitMix random, long index, Span<int> choices)
    {
        for (int k = 0; k < choices.Length; k++)
            choices[k] = k;
    }
}

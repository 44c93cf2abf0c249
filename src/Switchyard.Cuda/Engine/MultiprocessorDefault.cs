namespace Switchyard.Cuda.Engine;

/// <summary>How many multiprocessors a call takes that does not say: as many as its rows and their way can use. What they are worth: docs/gpu.md.</summary>
internal static class MultiprocessorDefault
{
    /// <summary>Of rows sent, for which another multiprocessor is worth taking.</summary>
    private const long BytesOfOne = 128 << 10;

    /// <summary>Planning and waiting for peers is shared out among so many even where there is next to nothing to move.</summary>
    private const int Least = 4;

    /// <summary>These keep an NVLink full.</summary>
    private const int MostOverLinks = 24;

    /// <summary>These, of each rank, keep the memory of a shared device busy.</summary>
    private const int MostWithinDevice = 16;

    /// <param name="maxTokens">Of a rank.</param>
    /// <param name="ranks">In the group.</param>
    /// <param name="topK">Experts of a token.</param>
    /// <param name="rowBytes">Of a token's row.</param>
    /// <param name="neighbours">Ranks on the device, this one included.</param>
    /// <param name="share">Multiprocessors that each of them may take.</param>
    public static int For(int maxTokens, int ranks, int topK, long rowBytes, int neighbours, int share)
    {
        long bytes = maxTokens * Math.Min(ranks, topK) * rowBytes;
        long wanted = Math.Clamp((bytes + BytesOfOne - 1) / BytesOfOne, Least, neighbours == 1 ? MostOverLinks : MostWithinDevice);
        return (int)Math.Clamp(wanted, 1, Math.Max(1, share));
    }
}

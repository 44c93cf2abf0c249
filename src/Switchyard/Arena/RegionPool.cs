namespace Switchyard.Arena;

/// <summary>
/// The owner's bookkeeping of its arena's pool. Which memory an allocation gets depends only on the calls made so far, never on how far
/// peers have come: memory that peers may still be reading counts as free, and is waited for when it is taken. Allocation goes round the pool, so
/// that memory still being read tends to be taken last.
/// </summary>
internal sealed class RegionPool
{
    private readonly List<Segment> _segments = new(capacity: 64);
    private long _cursor;

    public RegionPool(long offset, long bytes)
    {
        _segments.Add(new Segment(offset, bytes, IsLive: false, ReadUntil: 0));
        _cursor = offset;
    }

    private readonly record struct Segment(long Offset, long Bytes, bool IsLive, long ReadUntil)
    {
        public long End => Offset + Bytes;
    }

    /// <summary>
    /// Takes the first free run from the cursor on with <paramref name="wanted"/> bytes, else the longest. 0 bytes if all is taken.
    /// </summary>
    /// <returns>The region, and the last combine whose readers must be done before it is written; 0 for none.</returns>
    public Region Take(long wanted)
    {
        (int first, int count) = FindRun(wanted);
        if (count == 0) return default;

        long offset = _segments[first].Offset;
        long available = _segments[first + count - 1].End - offset;
        long bytes = Math.Min(wanted, available);
        long readUntil = 0;
        Segment last = default;
        int used = 0;
        while (used < count && _segments[first + used].Offset < offset + bytes)
        {
            last = _segments[first + used++];
            readUntil = Math.Max(readUntil, last.ReadUntil);
        }
        _segments.RemoveRange(first, used);
        if (last.End > offset + bytes) _segments.Insert(first, last with { Offset = offset + bytes, Bytes = last.End - offset - bytes });
        _segments.Insert(first, new Segment(offset, bytes, IsLive: true, ReadUntil: 0));
        _cursor = offset + bytes;
        return new Region(offset, bytes, readUntil);
    }

    /// <summary>Gives back all but the first <paramref name="bytes"/> bytes of a region just taken.</summary>
    public Region Trim(Region region, long bytes)
    {
        if (bytes == region.Bytes) return region;
        int at = IndexOf(region.Offset);
        Segment segment = _segments[at];
        _segments[at] = segment with { Bytes = bytes };
        _segments.Insert(at + 1, new Segment(segment.Offset + bytes, segment.Bytes - bytes, IsLive: false, ReadUntil: 0));
        if (bytes == 0) _segments.RemoveAt(at);
        else at++;
        Merge(at);
        _cursor = region.Offset + bytes;
        return region with { Bytes = bytes };
    }

    /// <summary>Gives a region back; peers may read it until they are done with combine <paramref name="readUntil"/> (0: nobody does).</summary>
    public void Return(Region region, long readUntil)
    {
        if (region.Bytes == 0) return;
        int at = IndexOf(region.Offset);
        _segments[at] = _segments[at] with { IsLive = false, ReadUntil = readUntil };
        Merge(at);
    }

    /// <summary>Forgets readers of combines up to <paramref name="epoch"/>: they are known to be done.</summary>
    public void Settle(long epoch)
    {
        for (int at = _segments.Count - 1; at >= 0; at--)
        {
            if (_segments[at].ReadUntil == 0 || _segments[at].ReadUntil > epoch) continue;
            _segments[at] = _segments[at] with { ReadUntil = 0 };
            Merge(at);
        }
    }

    public long LongestRun()
    {
        (int first, int count) = FindRun(long.MaxValue);
        return count == 0 ? 0 : _segments[first + count - 1].End - _segments[first].Offset;
    }

    private int IndexOf(long offset)
    {
        for (int at = 0; at < _segments.Count; at++)
        {
            if (_segments[at].Offset == offset && _segments[at].IsLive) return at;
        }
        throw new InvalidOperationException($"No live region starts at {offset}.");
    }

    /// <summary>Free neighbours are one, unless they differ in what must be waited for.</summary>
    private void Merge(int at)
    {
        MergeWithNext(at);
        if (at > 0) MergeWithNext(at - 1);
    }

    private void MergeWithNext(int at)
    {
        if (at + 1 >= _segments.Count) return;
        Segment segment = _segments[at];
        Segment next = _segments[at + 1];
        if (segment.IsLive || next.IsLive || segment.ReadUntil != next.ReadUntil) return;
        _segments[at] = segment with { Bytes = segment.Bytes + next.Bytes };
        _segments.RemoveAt(at + 1);
    }

    private (int First, int Count) FindRun(long wanted)
    {
        (int First, int Count) before = default, after = default, longest = default;
        long longestBytes = 0;
        for (int at = 0; at < _segments.Count; at++)
        {
            if (_segments[at].IsLive) continue;
            int first = at;
            while (at + 1 < _segments.Count && !_segments[at + 1].IsLive) at++;

            // A run that the cursor lies in is cut there, so that what was given back last comes last.
            Consider(first, at);
            int cut = first;
            while (cut <= at && _segments[cut].Offset < _cursor) cut++;
            if (cut > first && cut <= at) Consider(cut, at);
        }
        return after.Count > 0 ? after : before.Count > 0 ? before : longest;

        void Consider(int first, int last)
        {
            long bytes = _segments[last].End - _segments[first].Offset;
            if (bytes > longestBytes) (longest, longestBytes) = ((first, last - first + 1), bytes);
            if (bytes < wanted) return;
            if (_segments[first].Offset >= _cursor && after.Count == 0) after = (first, last - first + 1);
            if (before.Count == 0) before = (first, last - first + 1);
        }
    }
}

/// <summary>Memory taken from a pool.</summary>
/// <param name="Offset">From the start of the arena.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="ReadUntil">The last combine whose readers must be done before it is written; 0 for none.</param>
internal readonly record struct Region(long Offset, long Bytes, long ReadUntil);

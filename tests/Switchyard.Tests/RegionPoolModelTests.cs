using CsCheck;
using Switchyard.Arena;
using Xunit;

namespace Switchyard.Tests;

/// <summary>The pool against a model that keeps every line by itself and looks for memory by trying each.</summary>
public class RegionPoolModelTests
{
    private const int Line = 64;
    private const int Lines = 100;
    private const long Offset = 4096;

    [Fact]
    public void The_pool_agrees_with_its_model() => Gen.Select(Gen.Int[0, 1000000], Gen.Int[0, 3]).Sample((seed, epochs) =>
    {
        var random = new Random(seed);
        var pool = new RegionPool(Offset, Line * Lines);
        var model = new Model();
        List<Region> live = [];
        for (int step = 0; step < 80; step++)
        {
            int what = random.Next(6);
            if (what < 3)
            {
                long wanted = Line * random.Next(1, 40);
                Region region = pool.Take(wanted);
                Assert.Equal(model.Take(wanted), region);
                if (region.Bytes > 0 && random.Next(3) == 0)
                    region = Trimmed(pool, model, region, Line * random.NextInt64((region.Bytes / Line) + 1));
                if (region.Bytes > 0) live.Add(region);
            }
            else if (what < 5 && live.Count > 0)
            {
                int at = random.Next(live.Count), readUntil = random.Next(epochs + 1);
                pool.Return(live[at], readUntil);
                model.Free(live[at], readUntil);
                live.RemoveAt(at);
            }
            else if (what == 5)
            {
                int epoch = random.Next(epochs + 1);
                pool.Settle(epoch);
                model.Settle(epoch);
            }
            Assert.Equal(model.LongestRun(), pool.LongestRun());
        }
    }, iter: 1000);

    [Fact]
    public void A_region_is_given_back_once()
    {
        var pool = new RegionPool(Offset, Line * Lines);
        Region region = pool.Take(Line);
        pool.Return(region, readUntil: 0);
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => pool.Return(region, readUntil: 0));
        Assert.Contains("4096", error.Message, StringComparison.Ordinal);
    }

    /// <summary>Its books must not grow with the calls made: the list would be copied in the middle of a call, and searched for long.</summary>
    [Fact]
    public void A_long_run_allocates_nothing()
    {
        AllocatedBySteps(10000);
        Assert.Equal(0, AllocatedBySteps(100000));
    }

    private static long AllocatedBySteps(int steps)
    {
        var pool = new RegionPool(Offset, Line * 10000L);
        var random = new Random(1);
        var live = new Region[6];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int step = 0; step < steps; step++)
        {
            int at = step % live.Length;
            pool.Return(live[at], readUntil: step % 3 == 0 ? step : 0);
            pool.Settle(step - 20);
            live[at] = pool.Take(Line * random.Next(1, 900));
            if (step % 2 == 0) live[at] = pool.Trim(live[at], random.NextInt64(live[at].Bytes / Line) * Line);
        }
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    private static Region Trimmed(RegionPool pool, Model model, Region region, long bytes)
    {
        Region kept = pool.Trim(region, bytes);
        Assert.Equal(region with { Bytes = bytes }, kept);
        model.Trim(region, bytes);
        return kept;
    }

    /// <summary>Per line the region it belongs to (0: free) and the combine until which it is read.</summary>
    private sealed class Model
    {
        private readonly (int Owner, long ReadUntil)[] _lines = new (int, long)[Lines];
        private int _cursor;
        private int _owners;

        public Region Take(long wantedBytes)
        {
            int wanted = (int)(wantedBytes / Line);
            (int First, int Length)[] candidates = [.. Candidates()];
            if (candidates.Length == 0) return default;
            (int First, int Length)[] fitting = [.. candidates.Where(run => run.Length >= wanted)];
            (int first, int length) = fitting.Where(run => run.First >= _cursor).Concat(fitting)
                .Append(candidates.MaxBy(run => run.Length)).First();
            length = Math.Min(length, wanted);
            Span<(int Owner, long ReadUntil)> taken = _lines.AsSpan(first, length);
            long readUntil = taken.ToArray().Max(line => line.ReadUntil);
            taken.Fill((++_owners, 0));
            _cursor = first + length;
            return new Region(Offset + (first * Line), length * Line, readUntil);
        }

        public void Trim(Region region, long bytes)
        {
            if (bytes == region.Bytes) return;
            Free(region with { Offset = region.Offset + bytes, Bytes = region.Bytes - bytes }, 0);
            _cursor = (int)((region.Offset + bytes - Offset) / Line);
        }

        public void Free(Region region, long readUntil) =>
            _lines.AsSpan((int)((region.Offset - Offset) / Line), (int)(region.Bytes / Line)).Fill((0, readUntil));

        public void Settle(long epoch)
        {
            for (int line = 0; line < Lines; line++)
            {
                if (_lines[line].ReadUntil <= epoch) _lines[line].ReadUntil = 0;
            }
        }

        public long LongestRun() => Line * Candidates().Select(run => run.Length).DefaultIfEmpty(0).Max();

        /// <summary>
        /// Where an allocation may start: at each run of free lines, and, where one reaches across the cursor, at the first line from there on
        /// that is read for longer or shorter than the one before it.
        /// </summary>
        private IEnumerable<(int First, int Length)> Candidates()
        {
            for (int first = 0; first < Lines; first++)
            {
                if (_lines[first].Owner != 0) continue;
                int end = first;
                while (end < Lines && _lines[end].Owner == 0) end++;
                yield return (first, end - first);
                int cut = Math.Max(_cursor, first + 1);
                while (cut < end && _lines[cut] == _lines[cut - 1]) cut++;
                if (first < _cursor && cut < end) yield return (cut, end - cut);
                first = end;
            }
        }
    }
}
